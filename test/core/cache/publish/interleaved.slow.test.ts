import { describe, it } from 'node:test';
import fc from 'fast-check';
import { chainHooks, createScenario, runProcess } from '../../../support/cache/scenario.ts';
import { crashAtWrite } from '../../../support/buckets/crash.ts';
import type { BucketHooks } from '../../../support/buckets/memory-bucket.ts';

/** What one of several publishers gets: which events, in which order, and when it dies. */
interface Fate {
  readonly events: readonly number[];
  readonly dies: number;
}

const batches = 4;
const fates: fc.Arbitrary<Fate> = fc.record({
  // Repeated, left out and in any order, as queues deliver.
  events: fc.array(fc.nat({ max: batches - 1 }), { minLength: 1, maxLength: 6 }),
  dies: fc.oneof(fc.constant(Infinity), fc.integer({ min: 1, max: 40 })),
});

/** Every operation of every publisher waits for its turn. */
function inTurn(scheduler: fc.Scheduler, process: number): BucketHooks {
  return {
    before: (operation, key) =>
      scheduler.schedule(Promise.resolve(), `${process}: ${operation} ${key}`),
  };
}

async function race(
  scheduler: fc.Scheduler,
  processes: readonly Fate[],
  createsInOrder: boolean,
): Promise<void> {
  const scenario = await createScenario({ createsInOrder });
  const running = processes.map(({ events, dies }, index) => {
    const ids = events.map((event) => scenario.ids[event]!);
    const crash = crashAtWrite(dies, index % 2 === 0 ? 'before' : 'after');
    const hooks = chainHooks(inTurn(scheduler, index), scenario.watch, crash);
    return runProcess(scenario.cache, ids, hooks);
  });
  await scheduler.waitFor(Promise.all(running));
  scenario.watch.assertKept();
  await scenario.recover();
  await scenario.assertFinished();
}

describe('publishers at once, in any order of their storage operations', () => {
  for (const [count, numRuns] of [
    [2, 40],
    [3, 20],
  ] as const) {
    it(`${count} of them keep every promise`, async () => {
      const processes = fc.array(fates, { minLength: count, maxLength: count });
      // Fails with the seed, the path to the counterexample and the order of the operations.
      await fc.assert(fc.asyncProperty(fc.scheduler(), processes, fc.boolean(), race), { numRuns });
    });
  }
});
