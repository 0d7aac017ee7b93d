import { describe, it } from 'node:test';
import fc from 'fast-check';
import { chainHooks, createScenario, runProcess } from '../../../support/cache/scenario.ts';
import { crashAtWrite } from '../../../support/buckets/crash.ts';
import type { BucketHooks } from '../../../support/buckets/memory-bucket.ts';

/** The events that one of several publishers receives, in order, and the write at which it crashes. */
interface Run {
  readonly events: readonly number[];
  readonly crashesAt: number;
}

const batches = 4;
const runs: fc.Arbitrary<Run> = fc.record({
  // Queues deliver events in any order, repeat some and lose others.
  events: fc.array(fc.nat({ max: batches - 1 }), { minLength: 1, maxLength: 6 }),
  crashesAt: fc.oneof(fc.constant(Infinity), fc.integer({ min: 1, max: 40 })),
});

/** Lets the scheduler choose the order of all operations of all publishers. */
function inTurn(scheduler: fc.Scheduler, process: number): BucketHooks {
  return {
    before: (operation, key) =>
      scheduler.schedule(Promise.resolve(), `${process}: ${operation} ${key}`),
  };
}

async function race(
  scheduler: fc.Scheduler,
  processes: readonly Run[],
  createsInOrder: boolean,
): Promise<void> {
  const scenario = await createScenario({ createsInOrder });
  const running = processes.map(({ events, crashesAt }, index) => {
    const ids = events.map((event) => scenario.ids[event]!);
    const crash = crashAtWrite(crashesAt, index % 2 === 0 ? 'before' : 'after');
    const hooks = chainHooks(inTurn(scheduler, index), scenario.watch, crash);
    return runProcess(scenario.cache, ids, hooks);
  });
  await scheduler.waitFor(Promise.all(running));
  scenario.watch.assertKept();
  await scenario.recover();
  await scenario.assertFinished();
}

describe('concurrent publishers, with their storage operations in any order', () => {
  for (const [count, numRuns] of [
    [2, 40],
    [3, 20],
  ] as const) {
    it(`${count} of them keep every invariant`, async () => {
      const processes = fc.array(runs, { minLength: count, maxLength: count });
      // A failure prints the seed, the path to the counterexample and the order of the operations.
      await fc.assert(fc.asyncProperty(fc.scheduler(), processes, fc.boolean(), race), { numRuns });
    });
  }
});
