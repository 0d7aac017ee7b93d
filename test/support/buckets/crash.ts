import type { BucketHooks, BucketOperation } from './memory-bucket.ts';

/** Thrown after a simulated crash, when the process can do nothing more. */
export class CrashError extends Error {
  override readonly name = 'CrashError';
}

interface Crash extends BucketHooks {
  /** Writes started so far. A run without a crash counts all writes. */
  readonly writes: () => number;
  readonly hasCrashed: () => boolean;
}

const creating: ReadonlySet<BucketOperation> = new Set<BucketOperation>([
  'put',
  'commit',
  'delete',
]);

/**
 * Returns hooks for a process that crashes at its `nth` write (from 1), before or after its effect. From
 * then on every operation throws, so that no `finally` or `catch` of the process cleans up. Pass the
 * same hooks to each bucket of the process.
 *
 * @param nth `Infinity` never crashes
 * @param writing which operations are writes
 */
export function crashAtWrite(
  nth: number,
  moment: 'before' | 'after',
  writing: ReadonlySet<BucketOperation> = creating,
): Crash {
  let writes = 0;
  let hasCrashed = false;

  function die(operation: BucketOperation, key: string): never {
    hasCrashed = true;
    throw new CrashError(`crashed ${moment} write ${nth}: ${operation} ${key}`);
  }

  let fatal: string | undefined;
  return {
    before(operation, key) {
      if (hasCrashed) throw new CrashError(`${operation} ${key} after the crash`);
      if (!writing.has(operation)) return;
      writes += 1;
      if (writes !== nth) return;
      if (moment === 'before') die(operation, key);
      fatal = `${operation} ${key}`;
    },
    after(operation, key) {
      if (hasCrashed) throw new CrashError(`${operation} ${key} after the crash`);
      if (fatal === `${operation} ${key}`) die(operation, key);
    },
    writes: () => writes,
    hasCrashed: () => hasCrashed,
  };
}
