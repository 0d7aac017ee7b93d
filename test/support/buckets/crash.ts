import type { BucketHooks, BucketOperation } from './memory-bucket.ts';

/** The process is gone: nothing that it had still to do happens. */
export class CrashError extends Error {
  override readonly name = 'CrashError';
}

interface Crash extends BucketHooks {
  /** Writes begun so far; a run that does not crash counts how many there are. */
  readonly writes: () => number;
  readonly hasCrashed: () => boolean;
}

const creating: ReadonlySet<BucketOperation> = new Set<BucketOperation>([
  'put',
  'commit',
  'delete',
]);

/**
 * Hooks for a process that dies at its `nth` write (from 1), before or after its effect. From then
 * on every operation throws, so that no `finally` or `catch` of the dead process tidies up. Give
 * the same hooks to each bucket that the process uses.
 *
 * @param nth `Infinity` only counts
 * @param writing what counts as a write
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
