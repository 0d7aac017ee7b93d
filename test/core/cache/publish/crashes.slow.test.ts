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

/** Runs the scenario, misfortune and all, and then what repairs it. */
async function survive(
  misfortune: BucketHooks,
  about: string,
  options: TestCacheOptions = {},
): Promise<void> {
  const scenario = await createScenario(options);
  try {
    await runProcess(scenario.cache, scenario.ids, chainHooks(scenario.watch, misfortune));
    await scenario.recover();
    await scenario.assertFinished();
  } catch (cause) {
    throw new Error(about, { cause });
  }
}

/** Storage that cannot say what it has, once: at the `nth` look. */
function failLook(nth: number): BucketHooks & { readonly looks: () => number } {
  let looks = 0;
  return {
    looks: () => looks,
    before(operation, key) {
      if (!['get', 'head', 'list'].includes(operation)) return;
      looks += 1;
      if (looks === nth) {
        throw new NicheError('storage-unavailable', `injected: no answer to ${operation} ${key}`);
      }
    },
  };
}

/** How often a run without misfortune writes. */
async function countWrites(options: TestCacheOptions = {}): Promise<number> {
  const counting = crashAtWrite(Infinity, 'before');
  await survive(counting, 'without misfortune', options);
  return counting.writes();
}

describe('a publisher that meets misfortune', () => {
  it('needs no retry, no sweep and no second event when nothing goes wrong', async () => {
    const scenario = await createScenario();
    await runProcess(scenario.cache, scenario.ids, scenario.watch);
    await scenario.assertFinished();
  });

  // To die after a write is to die before the next one: only the last has an "after" of its own.
  it('loses nothing when it dies at any single write', async () => {
    const writes = await countWrites();
    assert.ok(writes > 50, `${writes} writes`);
    for (let nth = 1; nth <= writes; nth += 1) {
      const crash = crashAtWrite(nth, 'before');
      await survive(crash, `died before write ${nth}`);
      assert.ok(crash.hasCrashed());
    }
    await survive(crashAtWrite(writes, 'after'), 'died after the last write');
  });

  it('loses nothing when it dies at any single write, where narinfos are created in one go', async () => {
    const options = { createsInOrder: true };
    const writes = await countWrites(options);
    for (let nth = 1; nth <= writes; nth += 1) {
      const crash = crashAtWrite(nth, 'before');
      await survive(crash, `died before write ${nth}`, options);
      assert.ok(crash.hasCrashed());
    }
  });

  it('loses nothing when storage takes any single write and never says so', async () => {
    const writes = await countWrites();
    for (let nth = 1; nth <= writes; nth += 1) {
      await survive(loseAnswer(nth), `lost the answer to write ${nth}`);
    }
  });

  it('takes nothing for missing when storage fails any single look', async () => {
    const counting = failLook(Infinity);
    await survive(counting, 'without misfortune');
    assert.ok(counting.looks() > 30, `${counting.looks()} looks`);
    for (let nth = 1; nth <= counting.looks(); nth += 1) {
      await survive(failLook(nth), `no answer to look ${nth}`);
    }
  });
});
