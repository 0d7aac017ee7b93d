import { constants } from 'node:os';

const stopSignals = ['SIGINT', 'SIGTERM'] as const;

/** Returns a signal that the first SIGINT or SIGTERM aborts. The second one ends the process. */
export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  const stop = (signal: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(128 + constants.signals[signal]);
    controller.abort();
  };
  for (const signal of stopSignals) process.on(signal, stop);
  return controller.signal;
}
