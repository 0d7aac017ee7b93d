/**
 * Runs tests. The unit tests of an area share one process; files that start servers and programs
 * have one each. `all` also runs `npm run check`.
 *
 * usage: node scripts/test.ts all|unit|slow|e2e [FOLDER|FILE …]     as `unit core/nix`
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';

import type { TestCounts } from '../test/support/assert/counting-reporter.ts';
import { testTimeLimitMs } from '../test/support/assert/until.ts';

const checkout = join(import.meta.dirname, '..');

/** Folders of `test/` whose files each need a process: they start servers, Nix, or whole clouds. */
const e2eFolders = ['e2e', 'storage', 'package', 'nix-packaging'];

/** Test files that share one process; none for `check`: types, lint, format, unused code. */
interface Job {
  readonly name: string;
  readonly files: readonly string[];
}

const [kind = 'all', ...folders] = process.argv.slice(2);
const jobs = jobsOf(kind, folders);
if (kind === 'all') jobs.unshift({ name: 'check', files: [] });
if (jobs.length === 0) {
  print(`no ${kind} tests in ${folders.join(', ') || 'test'}`);
  process.exit(2);
}
/** Where compiled code and the bundle of this run are kept. */
const caches = join(checkout, 'node_modules/.cache');
const bundle = join(caches, 'niche');
const scratch = await mkdtemp(join(tmpdir(), 'niche-tests-'));
try {
  if (jobs.some(({ name }) => kindOf(name) === 'e2e')) {
    await promisify(execFile)(process.execPath, ['scripts/build.ts', bundle], { cwd: checkout });
  }
  report(await runAll(jobs));
} finally {
  await rm(scratch, { recursive: true, force: true });
}

/** `*.slow.test.ts` tries every crash; `*.process.test.ts` replaces built-ins. */
function jobsOf(kind: string, folders: readonly string[]): Job[] {
  const wanted = folders.map((name) => name.replace(/^test\//, '').replace(/\/+$/, ''));
  const files = globSync('**/*.test.ts', { cwd: join(checkout, 'test') })
    .filter(
      (file) =>
        wanted.length === 0 || wanted.some((name) => file === name || file.startsWith(`${name}/`)),
    )
    .sort();
  const areas = new Map<string, string[]>();
  for (const file of files) {
    if (kind !== 'all' && kind !== kindOf(file)) continue;
    const isShared = kindOf(file) === 'unit' && !file.endsWith('.process.test.ts');
    const area = isShared ? areaOf(file) : file;
    areas.set(area, [...(areas.get(area) ?? []), join('test', file)]);
  }
  // What takes longest begins first: it should not be what is waited for at the end.
  const weight = ({ name, files: { length } }: Job): number =>
    length + (/^e2e\/(?:aws|clouds|build)|slow|huge/.test(name) ? 100 : 0);
  return [...areas]
    .map(([name, files]): Job => ({ name, files }))
    .sort((a, b) => weight(b) - weight(a));
}

/** `unit`, `slow` or `e2e`; of a file, or of a job that has its name. */
function kindOf(file: string): string {
  if (e2eFolders.some((folder) => file.startsWith(`${folder}/`))) return 'e2e';
  return file.endsWith('.slow.test.ts') ? 'slow' : 'unit';
}

/** `cli`, `core/nix`: the folder that a unit test shares its process with. */
function areaOf(file: string): string {
  return /^(?:core\/)?[^/]+/.exec(file)?.[0] ?? '';
}

interface Outcome extends Job {
  readonly counts: TestCounts | null;
  readonly status: number | null;
  readonly seconds: number;
}

async function runAll(jobs: readonly Job[]): Promise<Outcome[]> {
  const waiting = [...jobs];
  const outcomes: Outcome[] = [];
  // One more than there are cores: tests of servers wait more than they compute.
  const lanes = availableParallelism() + 1;
  const lane = async (): Promise<void> => {
    for (let job = waiting.shift(); job; job = waiting.shift()) {
      outcomes.push(await runJob(job, jobs.length === 1));
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return outcomes;
}

/** @param isLive whether its output appears while it runs, rather than whole at its end */
async function runJob(job: Job, isLive: boolean): Promise<Outcome> {
  const started = performance.now();
  const countsFile = join(scratch, `${job.name.replaceAll('/', '-')}.json`);
  const [program, args] =
    job.files.length === 0
      ? ['npm', ['run', '--silent', job.name]]
      : [process.execPath, [...testFlags(countsFile), ...job.files]];
  const child = spawn(program, args, {
    cwd: checkout,
    env: {
      ...process.env,
      NODE_COMPILE_CACHE: join(caches, 'compiled'),
      // Tests that start niche as a process start the bundle that is shipped.
      ...(kindOf(job.name) === 'e2e' ? { NICHE_TEST_MAIN: join(bundle, 'main.mjs') } : {}),
    },
    stdio: ['ignore', isLive ? 'inherit' : 'pipe', 'inherit'],
    // Tests have ended by then; only a leaked handle keeps the process.
    timeout: 2 * testTimeLimitMs,
    killSignal: 'SIGKILL',
  });
  const [[status], output] = await Promise.all([
    once(child, 'close') as Promise<[number | null]>,
    child.stdout ? text(child.stdout) : '',
  ]);
  const seconds = (performance.now() - started) / 1000;
  const counts = JSON.parse(await readFile(countsFile, 'utf8').catch(() => 'null')) as TestCounts;
  if (!isLive) {
    print(`\n── ${job.name} (${seconds.toFixed(1)} s)\n${output.trimEnd()}`);
  }
  return { ...job, counts, status, seconds };
}

function testFlags(countsFile: string): string[] {
  return [
    ...['--test', '--test-isolation=none', `--test-timeout=${testTimeLimitMs}`],
    ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
    '--test-reporter=./test/support/assert/counting-reporter.ts',
    `--test-reporter-destination=${countsFile}`,
  ];
}

function report(outcomes: readonly Outcome[]): void {
  const skipped = new Map<string, number>();
  let passed = 0;
  const failures: string[] = [];
  for (const { name, counts, status } of outcomes) {
    passed += counts?.passed ?? 0;
    failures.push(...(counts?.failures ?? []));
    for (const [reason, count] of Object.entries(counts?.skipped ?? {})) {
      skipped.set(reason, (skipped.get(reason) ?? 0) + count);
    }
    const isExplained = counts !== null && counts.failed > 0;
    if (status !== 0 && !isExplained) failures.push(`${name}: its process ended with ${status}`);
  }
  print('');
  for (const { name, seconds } of outcomes.toSorted((a, b) => b.seconds - a.seconds).slice(0, 5)) {
    print(`${seconds.toFixed(1).padStart(6)} s  ${name}`);
  }
  for (const failure of failures) print(`failed: ${relative(checkout, failure)}`);
  for (const [reason, count] of skipped) print(`skipped ${count}: ${reason}`);
  const skips = [...skipped.values()].reduce((sum, count) => sum + count, 0);
  print(`${passed} passed, ${failures.length} failed, ${skips} skipped`);
  if (failures.length > 0 || passed === 0) process.exitCode = 1;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
