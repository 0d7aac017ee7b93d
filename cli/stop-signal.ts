const stopSignals = ['SIGINT', 'SIGTERM'] as const;

/** Aborted by the first SIGINT or SIGTERM; a second one, of either, ends the process. */
export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  const stop = (): void => {
    for (const signal of stopSignals) process.off(signal, stop);
    controller.abort();
  };
  for (const signal of stopSignals) process.on(signal, stop);
  return controller.signal;
}
