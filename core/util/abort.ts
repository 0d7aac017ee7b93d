import { NicheError } from '../errors.ts';

/**
 * Ends an operation whose caller has given it up.
 *
 * @param action what was being done, as in "reading"
 * @throws NicheError `aborted`, with the signal's reason as its cause
 */
export function throwIfAborted(signal: AbortSignal | undefined, action: string): void {
  if (signal?.aborted === true) {
    throw new NicheError('aborted', `gave up ${action}: it was cancelled`, {
      cause: signal.reason,
    });
  }
}
