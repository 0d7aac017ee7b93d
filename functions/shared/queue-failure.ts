import { NicheError } from '../../core/errors.ts';
import type { Failure } from '../../core/util/retry.ts';

/** Returns how to treat a failed HTTP request; 0 stands for no response. */
export function failureKindOf(status: number): Failure['kind'] {
  if (status === 429) return 'throttled';
  // 408, Request Timeout, is the one client error that a retry may solve.
  return status >= 400 && status < 500 && status !== 408 ? 'final' : 'transient';
}

/** Returns the failure of a request to a job queue: `storage-denied` if no retry helps. */
export function queueFailure(kind: Failure['kind'], message: string, cause: unknown): Failure {
  const code = kind === 'final' ? 'storage-denied' : 'storage-unavailable';
  return { kind, error: new NicheError(code, message, { cause }) };
}
