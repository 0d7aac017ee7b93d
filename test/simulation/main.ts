import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { makeCryptoDeterministic } from './determinism.ts';

/**
 * Simulates publishers, sweeps, clients and administrators of one cache, and checks its invariants:
 * `npm run simulate -- --schedules 10000 --seed 1`. Each schedule has a seed, which decides the order of
 * all storage operations, and which of them fail. A failure prints how to repeat it.
 */

interface WorkerOrder {
  readonly scenario: string | undefined;
  readonly mutation: string | undefined;
  readonly firstSeed: number;
  readonly schedules: number;
  /** The distance between two seeds of one worker. */
  readonly stride: number;
}

interface Progress {
  readonly schedules: number;
  readonly steps: number;
  readonly failure: { readonly scenario: string; readonly seed: number } | null;
}

const schedulesPerReport = 200;

makeCryptoDeterministic();
const { runSchedule } = await import('./schedule.ts');
const { findMutation } = await import('./mutations.ts');
const { findScenario, scenarioOfSeed } = await import('./scenarios.ts');

if (isMainThread) await main();
else await work(workerData as WorkerOrder);

/** Runs every seed of one worker until the first failure. */
async function work(order: WorkerOrder): Promise<void> {
  const { firstSeed, schedules, stride } = order;
  const mutation = findMutation(order.mutation);
  let done = 0;
  let steps = 0;
  for (let count = 1; count <= schedules; count += 1) {
    const seed = firstSeed + (count - 1) * stride;
    const scenario = order.scenario ? findScenario(order.scenario) : scenarioOfSeed(seed);
    const result = await runSchedule({ scenario, seed, mutation });
    done += 1;
    steps += result.steps;
    const failure = result.failure && { scenario: scenario.name, seed };
    if (failure !== null || done === schedulesPerReport || count === schedules) {
      parentPort?.postMessage({ schedules: done, steps, failure } satisfies Progress);
      done = 0;
      steps = 0;
    }
    if (failure !== null) return;
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      schedules: { type: 'string', default: '10000' },
      seed: { type: 'string', default: '1' },
      scenario: { type: 'string' },
      mutation: { type: 'string' },
      without: { type: 'string', default: '' },
      workers: { type: 'string', default: String(availableParallelism()) },
    },
  });
  const { scenario, mutation } = values;
  const seed = Number(values.seed);
  const schedules = Number(values.schedules);
  const without = new Set(values.without.split(',').filter(Boolean).map(Number));
  if (schedules === 1) {
    const name = scenario ?? scenarioOfSeed(seed).name;
    process.exitCode = (await explain(name, seed, mutation, without)) ? 1 : 0;
    return;
  }
  const failure = await runAll({
    scenario,
    mutation,
    seed,
    schedules,
    workers: Number(values.workers),
  });
  if (failure === null) return;
  process.exitCode = 1;
  const smallest = await removeFaults(failure.scenario, failure.seed, mutation);
  await explain(failure.scenario, failure.seed, mutation, smallest);
  console.log(`repeat it with: ${commandOf(failure.scenario, failure.seed, mutation, smallest)}`);
}

interface RunOrder {
  readonly scenario: string | undefined;
  readonly mutation: string | undefined;
  readonly seed: number;
  readonly schedules: number;
  readonly workers: number;
}

/** Runs the schedules in parallel. Returns the first failure. */
async function runAll(order: RunOrder): Promise<Progress['failure']> {
  const { scenario, mutation, seed, schedules } = order;
  const stride = Math.min(order.workers, schedules);
  const started = performance.now();
  let done = 0;
  let steps = 0;
  const failures: { readonly scenario: string; readonly seed: number }[] = [];
  const summary = (): string => {
    const seconds = (performance.now() - started) / 1000;
    return `${done} schedules, ${steps} steps, ${seconds.toFixed(1)} s, ${Math.round(done / seconds)} schedules a second`;
  };
  const ticker = setInterval(() => {
    console.log(summary());
  }, 10_000);
  const workers = Array.from({ length: stride }, (_, index) => {
    const count = Math.ceil((schedules - index) / stride);
    const workerOrder = { scenario, mutation, firstSeed: seed + index, schedules: count, stride };
    return new Worker(new URL(import.meta.url), {
      workerData: workerOrder satisfies WorkerOrder,
      // Most objects of a schedule die young.
      resourceLimits: { maxYoungGenerationSizeMb: 64 },
    });
  });
  await Promise.all(
    workers.map(async (worker) => {
      const { promise: ended, resolve, reject } = Promise.withResolvers<null>();
      worker.on('message', (progress: Progress) => {
        done += progress.schedules;
        steps += progress.steps;
        if (progress.failure === null) return;
        failures.push(progress.failure);
        for (const other of workers) void other.terminate();
      });
      worker.on('error', reject);
      worker.on('exit', () => {
        resolve(null);
      });
      return ended;
    }),
  );
  clearInterval(ticker);
  const [failure = null] = failures;
  console.log(`${summary()}: ${failure ? 'an invariant broke' : 'every invariant held'}`);
  return failure;
}

/** Leaves out faults that the failure does not need. Returns the steps of these. */
async function removeFaults(
  scenarioName: string,
  seed: number,
  mutationName: string | undefined,
): Promise<Set<number>> {
  const scenario = findScenario(scenarioName);
  const mutation = findMutation(mutationName);
  const without = new Set<number>();
  const { faults } = await runSchedule({ scenario, seed, mutation });
  for (const step of faults) {
    const fewer = new Set([...without, step]);
    const { failure } = await runSchedule({ scenario, seed, mutation, without: fewer });
    if (failure !== null) without.add(step);
  }
  return without;
}

/** Runs one schedule and prints all that happens. Returns whether it fails. */
async function explain(
  scenarioName: string,
  seed: number,
  mutationName: string | undefined,
  without: ReadonlySet<number>,
): Promise<boolean> {
  const { steps, failure } = await runSchedule({
    scenario: findScenario(scenarioName),
    seed,
    mutation: findMutation(mutationName),
    without,
    trace: console.log,
  });
  console.log(failure ?? `${steps} steps: every invariant held`);
  return failure !== null;
}

function commandOf(
  scenario: string,
  seed: number,
  mutation: string | undefined,
  without: ReadonlySet<number>,
): string {
  return [
    `npm run simulate -- --schedules 1 --scenario ${scenario} --seed ${seed}`,
    ...(mutation === undefined ? [] : [`--mutation ${mutation}`]),
    ...(without.size === 0 ? [] : [`--without ${[...without].join(',')}`]),
  ].join(' ');
}
