import { NicheError } from '../errors.ts';

/**
 * Throws if the caller aborted the operation.
 *
 * @param action what was aborted: `reading "nar/…" in s3://…`
 * @throws NicheError `aborted`, with the signal's reason as its cause
 */
export function throwIfAborted(signal: AbortSignal | undefined, action: string): void {
  if (signal?.aborted === true) {
    throw new NicheError('aborted', `${action} was cancelled`, {
      cause: signal.reason,
    });
  }
}

/**
 * Waits for shared work until the caller aborts. The work itself continues.
 *
 * @param action as for {@link throwIfAborted}
 * @throws NicheError `aborted`; the errors of `work`
 */
export async function waitUnlessAborted<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  action: string,
): Promise<T> {
  if (signal === undefined) return work;
  throwIfAborted(signal, action);
  const aborted = Promise.withResolvers<null>();
  const onAbort = (): void => {
    aborted.resolve(null);
  };
  signal.addEventListener('abort', onAbort);
  try {
    const result = await Promise.race([work, aborted.promise]);
    throwIfAborted(signal, action);
    return result as T;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
