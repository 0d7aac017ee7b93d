import { randomBytes } from 'node:crypto';
import { isNicheError } from '../../errors.ts';
import type { Operation, OperationRunner } from './operation.ts';

/**
 * A conditional write whose response may be lost. Its condition then refuses the retry, and the
 * object's metadata shows whether this writer wrote it.
 */
export interface ConditionalWrite<Api> extends Operation<Api, void> {
  /** From {@link createWriterId}; `attempt` stores it in the object's metadata. */
  readonly writer: string;
  /** Whether the storage refused the write because of what it holds. Such a write is not retried. */
  readonly isRefused: (error: unknown) => boolean;
  /** Whether a failed attempt may have been carried out, as after a lost response. */
  readonly mayHaveHappened: (error: unknown) => boolean;
  /**
   * Returns the writer in the metadata of the object that is there now. May throw NicheError
   * `storage-denied`, as uploaders may write objects that they may not read.
   */
  readonly readWriter: () => Promise<string | undefined>;
}

/** Why a write did not happen. */
export interface Refusal {
  /** The storage's error. */
  readonly error: unknown;
  /** An earlier attempt may have written the object, and reading it to find out is denied. */
  readonly mayBeOurs: boolean;
}

/** Returns a random id for one writer of one object: 16 hex digits. */
export function createWriterId(): string {
  return randomBytes(8).toString('hex');
}

/**
 * Writes at most once, in spite of retries.
 *
 * @returns null when the object is written, by the last attempt or by one whose response was lost
 * @throws NicheError of the runner for any failure that is not a refusal, `aborted` included
 */
export async function writeOnce<Api>(
  client: OperationRunner<Api>,
  write: ConditionalWrite<Api>,
): Promise<Refusal | null> {
  const { action, signal, writer } = write;
  const earlier = { mayHaveHappened: false };
  const refused = await client.run({
    action,
    signal,
    attempt: async (api) => {
      try {
        await write.attempt(api);
        return null;
      } catch (error) {
        if (write.isRefused(error)) return { error };
        earlier.mayHaveHappened ||= write.mayHaveHappened(error);
        throw error;
      }
    },
  });
  if (refused === null) return null;
  if (!earlier.mayHaveHappened) return { ...refused, mayBeOurs: false };
  const found = await unlessDenied(write.readWriter(), 'denied');
  return found === writer ? null : { ...refused, mayBeOurs: found === 'denied' };
}

/** Returns the result of `reading`, or `fallback` for credentials that may not read. */
export async function unlessDenied<T, Fallback>(
  reading: Promise<T>,
  fallback: Fallback,
): Promise<T | Fallback> {
  try {
    return await reading;
  } catch (error) {
    if (isNicheError(error, 'storage-denied')) return fallback;
    throw error;
  }
}
