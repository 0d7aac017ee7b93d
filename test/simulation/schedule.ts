import { listBlocked } from '../../core/cache/blocklist.ts';
import { attemptsPrefix, parseManifestKey } from '../../core/cache/layout.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import { newUploadId } from '../../core/cache/upload-id.ts';
import { toError } from '../../core/errors.ts';
import { InvariantError } from '../support/cache/invariants.ts';
import { createChecks, isInert } from './checks.ts';
import { createCluster } from './cluster.ts';
import { setRandomSource } from './determinism.ts';
import { createJobs, timeLimitMs } from './jobs.ts';
import type { Mutation } from './mutations.ts';
import { drawPlan } from './plan.ts';
import { createRandom } from './random.ts';
import { judgeClaims } from './claims.ts';
import type { AdminStep, BatchPaths, Scenario } from './scenarios.ts';
import { createScheduler } from './scheduler.ts';
import { createWorld, initWorld, prepareScenario } from './world.ts';

export interface ScheduleOptions {
  readonly scenario: Scenario;
  readonly seed: number;
  /** Steps whose fault is left out. */
  readonly without?: ReadonlySet<number>;
  readonly mutation?: Mutation | null;
  readonly trace?: (line: string) => void;
}

export interface ScheduleResult {
  readonly steps: number;
  /** The steps that had a fault. */
  readonly faults: readonly number[];
  readonly failure: Error | null;
}

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

/** After this many steps nothing fails any more, and the schedule comes to its end. */
const maxFaultySteps = 500;
/** A schedule that takes more steps never ends. */
const maxSteps = 8000;
const maxRounds = 8;

/** Runs one schedule: a scenario in the order, and with the faults, that the seed decides. */
export async function runSchedule(options: ScheduleOptions): Promise<ScheduleResult> {
  const { scenario, seed, without = new Set(), mutation = null } = options;
  const random = createRandom(seed);
  setRandomSource(createRandom(seed ^ 0x5bd1e995));
  const plan = drawPlan(seed, random, without);
  const failures: Error[] = [];
  const onFailure = (error: unknown): void => {
    failures.push(toError(error));
  };
  const trace = (line: string): void => options.trace?.(`${cluster.step()}  ${line}`);
  // Most errors are injected ones, and a stack trace costs more than the rest of an error.
  if (options.trace === undefined) Error.stackTraceLimit = 0;

  await prepareScenario(scenario);
  const isScheduled = (_: string, key: string): boolean =>
    plan.schedulesMarkers || !key.startsWith(attemptsPrefix);
  const scheduler = createScheduler({ random, ...plan, isScheduled, trace });
  const cluster = createCluster({ random, scheduler, timeLimitMs, trace, onFailure });
  const world = createWorld({
    ...{ scenario, plan, scheduler, mutation, now: cluster.now },
    onEffect(actor, root, operation, key) {
      try {
        checks.onEffect(actor, root, operation, key);
      } catch (error) {
        onFailure(error);
      }
      if (operation === 'put') noteManifest(key);
    },
  });
  let deaths = 0;

  function advance(ms: number): void {
    deaths += cluster.advance(ms);
  }

  const lastUploads = new Set<string>();
  const checks = createChecks({
    stores: world.stores,
    upstreamPaths: (scenario.upstream ?? []).map(({ info }) => info.path),
    step: cluster.step,
    ...judgeClaims(scenario),
    // Five attempts that are cut off at a path, and its publisher rejects it.
    mayGiveUp: () => cluster.cutOff() > 4,
    isLast: (upload) => lastUploads.has(upload),
  });
  const { admins = [] } = scenario;
  const rotates = admins.flat().some(({ kind }) => kind === 'rotate');
  const jobs = createJobs({ world, cluster, random, rotates, advance });
  await initWorld(world);

  const events: BatchId[] = [];
  const seen = new Set<string>();

  /** Sends the event of a new manifest, unless it gets lost. */
  function noteManifest(key: string): void {
    const id = parseManifestKey(key);
    if (id === null || seen.has(key)) return;
    seen.add(key);
    events.push(id);
    if (!random.chance(plan.loss)) cluster.enqueue(jobs.publish(id));
  }

  /** The number of batches of each upload. */
  const uploads = new Map<string, number>();

  function stageUpload(batches: readonly BatchPaths[]): string {
    const upload = newUploadId(cluster.now(), Buffer.alloc(10, uploads.size + 1));
    uploads.set(upload, batches.length);
    batches.forEach((paths, batch) => {
      cluster.enqueue(jobs.stage({ upload, batch }, paths));
    });
    return upload;
  }

  const onDemand = new Map((scenario.onDemand ?? []).map((path) => [path.info.path, [path]]));

  function poll(upload: string): void {
    cluster.enqueue(
      jobs.poll(upload, (missing) => {
        const paths = onDemand.get(missing);
        if (!paths) return;
        onDemand.delete(missing);
        const batch = uploads.get(upload) ?? 0;
        uploads.set(upload, batch + 1);
        cluster.enqueue(jobs.stage({ upload, batch }, paths));
      }),
    );
  }

  function administer(steps: readonly AdminStep[]): void {
    const [step, ...rest] = steps;
    if (!step) return;
    if (step.kind === 'stage') {
      lastUploads.add(stageUpload(step.upload));
      administer(rest);
    } else {
      const next = (): void => {
        administer(rest);
      };
      cluster.enqueue(jobs.administer(step, next));
    }
  }

  const faultySteps: number[] = [];

  /** Takes one step; `isCalm` without faults. */
  async function takeStep(isCalm: boolean): Promise<void> {
    cluster.tick();
    if (cluster.step() > maxSteps) {
      onFailure(new InvariantError('progress: the schedule never ends'));
      return;
    }
    if (!isCalm) disturb();
    const mayStart = cluster.queued() > 0;
    if (mayStart && (scheduler.count() === 0 || random.chance(plan.start))) {
      cluster.startNext();
      await scheduler.settle();
      return;
    }
    let fault = isCalm ? null : plan.faultAt(cluster.step());
    if (fault === 'died' && deaths >= plan.maxDeaths) fault = null;
    if (fault === 'died') deaths += 1;
    if (fault !== null) faultySteps.push(cluster.step());
    if (await scheduler.step(fault)) return;
    if (!cluster.isIdle()) onFailure(new InvariantError('progress: a job waits for ever'));
  }

  /** What happens at random besides storage operations. */
  function disturb(): void {
    if (random.chance(plan.death) && deaths < plan.maxDeaths && cluster.processes.length > 0) {
      deaths += 1;
      cluster.kill(random.pick(cluster.processes));
    }
    if (random.chance(plan.repeat) && events.length > 0) {
      cluster.enqueue(jobs.publish(random.pick(events)));
    }
    if (random.chance(plan.sweep)) cluster.enqueue(jobs.sweep());
    if (random.chance(plan.advance) && deaths < plan.maxDeaths) {
      advance(random.pick([1, 6, 6, 11, 35]) * minuteMs);
    }
    if (random.chance(0.01) && uploads.size > 0) poll(random.pick([...uploads.keys()]));
  }

  async function runUntilIdle(isCalm: () => boolean): Promise<void> {
    while (failures.length === 0 && (!cluster.isIdle() || scheduler.count() > 0)) {
      await takeStep(isCalm());
    }
  }

  /** Repeats events and sweeps, until nothing changes any more and all time limits have passed. */
  async function recover(): Promise<void> {
    const isCalm = (): boolean => true;
    scheduler.release();
    for (const id of events) if (random.chance(0.5)) cluster.enqueue(jobs.publish(id));
    await runUntilIdle(isCalm);
    for (let round = 0; failures.length === 0 && round < maxRounds && isUnfinished(); round += 1) {
      const before = countWrites();
      cluster.advance(hourMs);
      for (const upload of uploads.keys()) if (onDemand.size > 0) poll(upload);
      cluster.enqueue(jobs.sweep());
      await runUntilIdle(isCalm);
      if (countWrites() === before) break;
    }
    if (!isUnfinished()) return;
    cluster.advance(8 * dayMs);
    cluster.enqueue(jobs.sweep());
    await runUntilIdle(isCalm);
  }

  const countWrites = (): number =>
    Object.values(world.stores).reduce((sum, { writes }) => sum + writes, 0);
  /** Whether there is anything that a sweep could act on: it only lists otherwise. */
  const isUnfinished = (): boolean =>
    [world.stores.staging, world.stores.private].some(({ objects }) =>
      [...objects.keys()].some((key) => !isInert(key)),
    );

  async function check(name: 'checkBlocked' | 'checkEnd'): Promise<void> {
    if (failures.length > 0) return;
    const blocked = await listBlocked(world.plain.private);
    try {
      checks[name](blocked);
    } catch (error) {
      onFailure(error);
    }
  }

  for (const batches of scenario.uploads) stageUpload(batches);
  for (const realisations of scenario.realisations ?? []) {
    const upload = newUploadId(cluster.now(), Buffer.alloc(10, uploads.size + 1));
    uploads.set(upload, 1);
    cluster.enqueue(jobs.stageRealisations({ upload, batch: 0 }, realisations));
  }
  for (const steps of admins) administer(steps);
  await runUntilIdle(() => cluster.step() > maxFaultySteps);
  // Without a crash no path waits for a sweep to be withdrawn.
  if (deaths + faultySteps.length === 0) await check('checkBlocked');
  await recover();
  await check('checkEnd');
  return { steps: cluster.step(), faults: faultySteps, failure: failures[0] ?? null };
}
