import { parentPort, workerData } from 'node:worker_threads';
import { toError } from '../../core/errors.ts';
import { makeCryptoDeterministic } from './determinism.ts';
import type { Scenario } from './scenarios.ts';

/** Runs schedules in a worker thread, and posts what it has done. */

/** The schedules of one worker: those of consecutive seeds. */
export interface WorkerOrder {
  readonly scenario: string | undefined;
  readonly mutation: string | undefined;
  readonly firstSeed: number;
  readonly schedules: number;
}

/** A schedule that broke an invariant. */
export interface FailedSchedule {
  readonly scenario: string;
  readonly seed: number;
  readonly message: string;
}

/** What a worker has done since its last report. */
export interface Progress {
  readonly steps: number;
  /** The number of schedules by scenario. */
  readonly counts: ReadonlyMap<string, number>;
  readonly failures: readonly FailedSchedule[];
}

const schedulesPerReport = 100;

makeCryptoDeterministic();
const { runSchedule } = await import('./schedule.ts');
const { findMutation } = await import('./mutations.ts');
const { findScenario, scenarioOfSeed } = await import('./scenarios.ts');

const order = workerData as WorkerOrder;
const mutation = findMutation(order.mutation);

/** Never throws: an error of the simulation itself counts as a failure too. */
async function run(scenario: Scenario, seed: number): ReturnType<typeof runSchedule> {
  try {
    return await runSchedule({ scenario, seed, mutation });
  } catch (error) {
    return { steps: 0, faults: [], failure: toError(error) };
  }
}

let steps = 0;
let counts = new Map<string, number>();
let failures: FailedSchedule[] = [];
for (let done = 1; done <= order.schedules; done += 1) {
  const seed = order.firstSeed + done - 1;
  const scenario = order.scenario ? findScenario(order.scenario) : scenarioOfSeed(seed);
  const result = await run(scenario, seed);
  steps += result.steps;
  counts.set(scenario.name, (counts.get(scenario.name) ?? 0) + 1);
  if (result.failure) {
    failures.push({ scenario: scenario.name, seed, message: result.failure.message });
  }
  if (done % schedulesPerReport === 0 || done === order.schedules || failures.length > 0) {
    parentPort?.postMessage({ steps, counts, failures } satisfies Progress);
    steps = 0;
    counts = new Map();
    failures = [];
  }
}
