import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { makeCryptoDeterministic } from './determinism.ts';
import { runAll } from './run-all.ts';
import type { RunReport } from './run-all.ts';

/**
 * Simulates publishers, sweeps, clients and administrators of one cache, and checks its invariants:
 * `npm run simulate -- --schedules 10000 --seed 1`. Each schedule has a seed, which decides the order of
 * all storage operations, and which of them fail. Each failure is printed with a command that repeats it.
 */

const progressMs = 5000;
/** The exit status of a program that Ctrl-C ended. */
const interruptedStatus = 130;

makeCryptoDeterministic();
const { runSchedule } = await import('./schedule.ts');
const { findMutation } = await import('./mutations.ts');
const { findScenario, scenarioOfSeed } = await import('./scenarios.ts');

await main();

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
  const workers = Number(values.workers);
  await runMany({ scenario, mutation, seed, schedules, workers });
}

/** Runs many schedules until the end, ten failures, or Ctrl-C, and prints the results. */
async function runMany(order: Omit<Parameters<typeof runAll>[0], 'signal'>): Promise<void> {
  const { mutation } = order;
  const interrupt = new AbortController();
  process.once('SIGINT', () => {
    interrupt.abort();
  });
  const started = performance.now();
  let shownAt = started;
  let shownFailures = 0;
  const report = await runAll({ ...order, signal: interrupt.signal }, (current) => {
    for (const { scenario, seed, message } of current.failures.slice(shownFailures)) {
      console.error(`${scenario}, seed ${seed}: ${message}`);
    }
    shownFailures = current.failures.length;
    if (performance.now() - shownAt < progressMs) return;
    shownAt = performance.now();
    console.error(`${summarize(current, started)}, ${current.failures.length} failures`);
  });
  const { counts, failures } = report;
  console.log(summarize(report, started));
  console.log([...counts].map(([name, count]) => `${name} ${count}`).join(', '));
  const isInterrupted = interrupt.signal.aborted;
  if (isInterrupted) console.log(`interrupted: ${order.schedules} schedules were requested`);
  if (failures.length === 0) console.log('every invariant held');
  for (const { scenario, seed, message } of failures) {
    console.log(`${message}\n  repeat it with: ${commandOf(scenario, seed, mutation, new Set())}`);
  }
  process.exitCode = failures.length > 0 ? 1 : isInterrupted ? interruptedStatus : 0;
  const [first] = failures;
  if (!first || isInterrupted) return;
  const smallest = await removeFaults(first.scenario, first.seed, mutation);
  await explain(first.scenario, first.seed, mutation, smallest);
  console.log(`repeat it with: ${commandOf(first.scenario, first.seed, mutation, smallest)}`);
}

/** Describes what is done, and how fast. */
function summarize({ schedules, steps }: RunReport, started: number): string {
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage();
  const perCpuSecond = Math.round((schedules * 1e6) / (user + system));
  return `${schedules} schedules, ${steps} steps, ${seconds.toFixed(1)} s: ${Math.round(schedules / seconds)} schedules a second, ${perCpuSecond} a CPU second`;
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
