import { isNicheError, isRejection } from '../../errors.ts';
import type { NicheError } from '../../errors.ts';

/** Returns whether `error` concerns one path only: it is not signed, and the others are. */
export function isRefusal(error: unknown): error is NicheError {
  return (
    isRejection(error) ||
    isNicheError(
      error,
      'untrusted-path',
      'unreadable-nar',
      'malformed-narinfo',
      'oversized',
      'not-found',
    )
  );
}

/** Returns the refusal that `work` throws, or its result. */
export async function catchRefusal<T>(work: () => Promise<T>): Promise<T | NicheError> {
  try {
    return await work();
  } catch (error) {
    if (isRefusal(error)) return error;
    throw error;
  }
}
