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
