import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NicheError } from '../../../../core/errors.ts';
import {
  createWriterId,
  unlessDenied,
  writeOnce,
  type Refusal,
} from '../../../../core/storage/http/conditional-write.ts';
import type { OperationRunner } from '../../../../core/storage/http/operation.ts';
import { createRetrier } from '../../../../core/util/retry.ts';

/** A storage of one object that records its writer. */
interface Storage {
  object?: string | undefined;
}

class LostResponse extends Error {}
class Exists extends Error {}
class Overloaded extends Error {}

const client: OperationRunner<null> = {
  run({ action, signal, attempt }) {
    return createRetrier({ firstBackoffMs: 1, maxAttempts: 3 }).run({
      action,
      signal,
      attempt: () => attempt(null),
      explain: (error) => ({
        kind: 'transient',
        error: new NicheError('storage-unavailable', `${action} failed`, { cause: error }),
      }),
    });
  },
};

const denied = new NicheError('storage-denied', 'reading failed: access denied');

interface Given {
  readonly storage?: Storage;
  /** What happens in each attempt, instead of a plain conditional write; the last one repeats. */
  readonly attempts?: readonly ((write: () => void) => void)[];
  readonly canRead?: boolean;
  readonly signal?: AbortSignal;
}

async function run(
  given: Given,
): Promise<{ refusal: Refusal | null; attempts: number; reads: number }> {
  const { storage = {}, attempts = [], canRead = true, signal } = given;
  const writer = createWriterId();
  const count = { attempts: 0, reads: 0 };
  const write = (): void => {
    if (storage.object !== undefined) throw new Exists();
    storage.object = writer;
  };
  const refusal = await writeOnce(client, {
    action: 'writing "object"',
    signal,
    writer,
    attempt: async () => {
      const step = attempts[Math.min(count.attempts, attempts.length - 1)];
      count.attempts += 1;
      await Promise.resolve();
      if (step === undefined) write();
      else step(write);
    },
    isRefused: (error) => error instanceof Exists,
    mayHaveHappened: (error) => error instanceof LostResponse,
    readWriter: () => {
      count.reads += 1;
      return canRead ? Promise.resolve(storage.object) : Promise.reject(denied);
    },
  });
  return { refusal, ...count };
}

const plainWrite = (write: () => void): void => {
  write();
};

function writtenButLost(write: () => void): void {
  write();
  throw new LostResponse();
}

function notWrittenAndLost(): void {
  throw new LostResponse();
}

describe('writeOnce', () => {
  it('writes an object that does not exist', async () => {
    assert.deepEqual(await run({}), { refusal: null, attempts: 1, reads: 0 });
  });

  it('reports an existing object without a read when no response was lost', async () => {
    const { refusal, attempts, reads } = await run({ storage: { object: 'other' } });
    assert.ok(refusal?.error instanceof Exists);
    assert.equal(refusal.mayBeOurs, false);
    assert.deepEqual([attempts, reads], [1, 0]);
  });

  it('recognises its own object when the response was lost', async () => {
    const attempts = [writtenButLost, plainWrite];
    assert.deepEqual(await run({ attempts }), { refusal: null, attempts: 2, reads: 1 });
  });

  it('retries when the lost request was not carried out', async () => {
    const attempts = [notWrittenAndLost, plainWrite];
    assert.deepEqual(await run({ attempts }), { refusal: null, attempts: 2, reads: 0 });
  });

  it('reports another writer’s object after a lost response', async () => {
    const storage: Storage = {};
    const overtaken = (): void => {
      storage.object = 'other';
      throw new LostResponse();
    };
    const { refusal, reads } = await run({ storage, attempts: [overtaken, plainWrite] });
    assert.ok(refusal?.error instanceof Exists);
    assert.equal(refusal.mayBeOurs, false);
    assert.equal(reads, 1);
  });

  it('is refused when the object was written and then deleted', async () => {
    const storage: Storage = {};
    const gone = (): void => {
      throw new Exists();
    };
    const { refusal } = await run({ storage, attempts: [notWrittenAndLost, gone] });
    assert.equal(refusal?.mayBeOurs, false);
  });

  it('cannot decide when reading is denied', async () => {
    const { refusal } = await run({ canRead: false, attempts: [writtenButLost, plainWrite] });
    assert.ok(refusal?.error instanceof Exists);
    assert.equal(refusal.mayBeOurs, true);
  });

  it('does not read after a failure without side effects', async () => {
    const overloaded = (): void => {
      throw new Overloaded();
    };
    const given = { storage: { object: 'other' }, attempts: [overloaded, plainWrite] };
    const { refusal, reads } = await run(given);
    assert.equal(refusal?.mayBeOurs, false);
    assert.equal(reads, 0);
  });

  it('throws the last error after the last attempt', async () => {
    await assert.rejects(run({ attempts: [notWrittenAndLost] }), { code: 'storage-unavailable' });
  });

  it('throws when the caller aborts, written or not', async () => {
    const caller = new AbortController();
    const aborted = (write: () => void): void => {
      write();
      caller.abort();
      throw new LostResponse();
    };
    await assert.rejects(run({ attempts: [aborted, plainWrite], signal: caller.signal }), {
      code: 'aborted',
    });
  });

  it('throws when reading fails for another reason', async () => {
    const down = new NicheError('storage-unavailable', 'reading failed');
    const write = {
      action: 'writing',
      writer: 'ours',
      isRefused: (error: unknown) => error instanceof Exists,
      mayHaveHappened: () => true,
      readWriter: () => Promise.reject(down),
    };
    let isFirst = true;
    const attempt = (): Promise<never> => {
      const error = isFirst ? new LostResponse() : new Exists();
      isFirst = false;
      return Promise.reject(error);
    };
    await assert.rejects(writeOnce(client, { ...write, attempt }), down);
  });
});

describe('unlessDenied', () => {
  it('replaces only “denied” errors', async () => {
    const down = new NicheError('storage-unavailable', 'reading failed');
    assert.equal(await unlessDenied(Promise.resolve(1), 2), 1);
    assert.equal(await unlessDenied(Promise.reject(denied), 2), 2);
    await assert.rejects(unlessDenied(Promise.reject(down), 2), down);
  });
});
