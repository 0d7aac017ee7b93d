import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NicheError } from '../../../../core/errors.ts';
import {
  chainHooks,
  createScenario,
  loseAnswer,
  runProcess,
} from '../../../support/cache/scenario.ts';
import { crashAtWrite } from '../../../support/buckets/crash.ts';
import type { TestCacheOptions } from '../../../support/cache/kit.ts';
import type { BucketHooks } from '../../../support/buckets/memory-bucket.ts';

/** Runs the scenario with a fault, and then lets the recovery finish it. */
async function survive(
  fault: BucketHooks,
  about: string,
  options: TestCacheOptions = {},
): Promise<void> {
  const scenario = await createScenario(options);
  try {
    await runProcess(scenario.cache, scenario.ids, chainHooks(scenario.watch, fault));
    await scenario.recover();
    await scenario.assertFinished();
  } catch (cause) {
    throw new Error(about, { cause });
  }
}

/** Fails the `nth` read of the storage. */
function failRead(nth: number): BucketHooks & { readonly reads: () => number } {
  let reads = 0;
  return {
    reads: () => reads,
    before(operation, key) {
      if (!['get', 'head', 'list'].includes(operation)) return;
      reads += 1;
      if (reads === nth) {
        throw new NicheError('storage-unavailable', `injected: no answer to ${operation} ${key}`);
      }
    },
  };
}

/** Counts the writes of a run without a fault. */
async function countWrites(options: TestCacheOptions = {}): Promise<number> {
  const counting = crashAtWrite(Infinity, 'before');
  await survive(counting, 'without a fault', options);
  return counting.writes();
}

describe('a publisher with one fault', () => {
  it('needs no retry, no sweep and no second event without a fault', async () => {
    const scenario = await createScenario();
    await runProcess(scenario.cache, scenario.ids, scenario.watch);
    await scenario.assertFinished();
  });

  // A crash after a write is a crash before the next one. Only the last write has its own "after".
  it('loses nothing when it crashes at any single write', async () => {
    const writes = await countWrites();
    assert.ok(writes > 50, `${writes} writes`);
    for (let nth = 1; nth <= writes; nth += 1) {
      const crash = crashAtWrite(nth, 'before');
      await survive(crash, `crashed before write ${nth}`);
      assert.ok(crash.hasCrashed());
    }
    await survive(crashAtWrite(writes, 'after'), 'crashed after the last write');
  });

  it('loses nothing when it crashes at any single write while it creates narinfos together', async () => {
    const options = { createsInOrder: true };
    const writes = await countWrites(options);
    for (let nth = 1; nth <= writes; nth += 1) {
      const crash = crashAtWrite(nth, 'before');
      await survive(crash, `crashed before write ${nth}`, options);
      assert.ok(crash.hasCrashed());
    }
  });

  it('loses nothing when the answer to any single write is lost', async () => {
    const writes = await countWrites();
    for (let nth = 1; nth <= writes; nth += 1) {
      await survive(loseAnswer(nth), `lost the answer to write ${nth}`);
    }
  });

  it('treats nothing as missing when any single read fails', async () => {
    const counting = failRead(Infinity);
    await survive(counting, 'without a fault');
    assert.ok(counting.reads() > 30, `${counting.reads()} reads`);
    for (let nth = 1; nth <= counting.reads(); nth += 1) {
      await survive(failRead(nth), `no answer to read ${nth}`);
    }
  });
});
