/** Resolves when any of `signals` is aborted. */
export async function aborting(...signals: readonly AbortSignal[]): Promise<void> {
  const any = AbortSignal.any([...signals]);
  if (any.aborted) return;
  await new Promise((resolve) => {
    any.addEventListener('abort', resolve, { once: true });
  });
}
