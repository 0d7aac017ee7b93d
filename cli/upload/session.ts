import type { OpenCache } from '../../core/cache/open.ts';
import { isCompletePath } from '../../core/cache/complete-path.ts';
import { createLookups } from '../../core/cache/stage/lookups.ts';
import type { Outcome } from '../../core/cache/receipts/receipts.ts';
import { newUploadId } from '../../core/cache/upload-id.ts';
import { NicheError, isNicheError } from '../../core/errors.ts';
import type { PublicKey } from '../../core/nix/keys.ts';
import type { PathInfo, PathInfos } from '../../core/nix/path-info.ts';
import type { Realisation } from '../../core/nix/realisation.ts';
import { mapConcurrent } from '../../core/util/concurrency.ts';
import type { Nix } from '../nix/nix.ts';
import { queryPathInfos } from '../nix/query.ts';
import { queryRealisations } from '../nix/realisations.ts';
import type { Progress } from '../ui/progress.ts';
import { createConfirmer } from './confirm.ts';
import { createUploadDisplay } from './display.ts';
import { createEarlierUploads } from './earlier.ts';
import type { LocalRecord } from './local-record.ts';
import { createOutcomeJournal } from './outcome-journal.ts';
import { createRealisationLookups, knownAs } from './realisations.ts';
import { createReceiptPolling } from './receipt-polling.ts';
import { createResults } from './results.ts';
import type { PathResult, Results, UploadLookups } from './results.ts';
import { createSelector } from './select.ts';
import { createStaging } from './staging.ts';
import { createUploadPublisher } from './upload-publisher.ts';
import type { OpenPublisher } from './upload-publisher.ts';

export interface UploadOptions {
  readonly nix: Nix;
  readonly cache: OpenCache;
  /** The keys that prove that a path is published. */
  readonly publicKeys: readonly PublicKey[];
  /** What this machine knows of the cache from earlier runs. */
  readonly record: LocalRecord;
  readonly exclude: RegExp | null;
  /** Whether the references of a path are uploaded with it. */
  readonly closure: boolean;
  /** Whether a path that is not in the store is a failure. */
  readonly mustExist: boolean;
  /** Whether build logs are uploaded too. */
  readonly logs: boolean;
  /** How long no result may come before waiting ends. */
  readonly waitMs: number;
  /** Publishes in this process; null when another publisher does. */
  readonly publisher: OpenPublisher | null;
  readonly progress: Progress;
  readonly signal?: AbortSignal | undefined;
}

/** Uploads store paths as they become known, and collects their results. */
export interface UploadSession {
  readonly results: Results;
  /** The upload whose status shows pending paths: this one or, if it has none, an earlier one. */
  pendingUpload(): string;
  /** Requests so far that looked for paths in the cache and its upstreams. */
  lookups(): UploadLookups;
  /**
   * Stages the paths that the cache lacks, then the realisations of which they are the outputs.
   *
   * @param derivations those of a build, complete once `found` has ended: all valid outputs of its
   *   content-addressed derivations are staged too, also those that nothing refers to
   * @returns when `found` has ended and everything is staged
   */
  stage(found: AsyncIterable<PathInfos>, derivations?: ReadonlySet<string>): Promise<void>;
  /** Returns the paths that are not published yet. */
  unfinished(): string[];
  /**
   * Publishes the staged paths in this process, or waits for another publisher as long as it makes
   * progress. A publisher in this process also publishes what killed runs left staged.
   *
   * @throws NicheError with the first failure of Nix, storage, an upstream or a signer that concerns
   *   paths of this upload
   */
  publish(): Promise<void>;
}

/** Conflicting paths looked up in the cache at the same time. */
const checksAtOnce = 8;

export function createUploadSession(options: UploadOptions): UploadSession {
  const { nix, cache, record, waitMs, signal } = options;
  const asking = signal ? { signal } : {};
  const upload = newUploadId();
  const results = createResults();
  const display = createUploadDisplay(options.progress, results);
  const lookups = createLookups(cache, record.known);
  const selector = createSelector(lookups, options.exclude);
  const earlier = createEarlierUploads(cache.staging, record.journal);

  const staging = createStaging({
    ...options,
    signal,
    upload,
    journal: record.journal,
    onStaged(batch, infos) {
      for (const info of infos) results.setStaged(info);
      display.staged(batch, infos);
      publisher?.submit(batch);
    },
    onFailed: fail,
  });
  const outcomes = createOutcomeJournal(record, (path) => {
    const realisation = staging.realisations.get(path);
    return realisation ? knownAs(realisation) : staging.infos.get(path);
  });
  const publisher =
    options.publisher &&
    createUploadPublisher({
      open: options.publisher,
      isOwn: ({ upload: from }) =>
        from === upload || [...staging.batches.values()].some((batch) => batch.upload === from),
      onPublished({ path, upload: from, outcome }) {
        // It also publishes batches of other uploads.
        if (path === null || staging.batches.get(path)?.upload !== from) return;
        noteOutcome(path, outcome);
        display.published(path, outcome);
      },
      onWarning(message) {
        display.warning(message);
      },
    });
  const confirmer = createConfirmer(cache, options.publicKeys);
  const realisationLookups = createRealisationLookups(cache, options.publicKeys, record.known);
  /** The deriver of each content-addressed path. */
  const derivers = new Set<string>();
  const receipts = createReceiptPolling({
    bucket: cache.staging,
    waitMs,
    signal,
    results,
    batches: staging.batches,
    infos: staging.infos,
    realisations: staging.realisations,
    confirmer,
    confirmRealisation: (realisation) => realisationLookups.confirm(realisation),
    onOutcome: noteOutcome,
    onPolled() {
      display.counts();
    },
  });
  display.started(upload);

  function noteOutcome(path: string, outcome: Outcome): void {
    results.setOutcome(path, outcome);
    outcomes.note(path, outcome);
  }

  function fail(info: Pick<PathInfo, 'path' | 'narSize'>, error: unknown): void {
    results.setFailed(info, error);
    display.failed(info.path, error);
  }

  function reportInvalid(path: string): void {
    const message = `${path} is not in the store ${nix.realStoreDir ?? nix.settings.store}: it was deleted or never built`;
    if (options.mustExist) fail({ path, narSize: 0 }, new NicheError('not-found', message));
    else display.warning(message);
  }

  async function stageGroup({ valid, invalid, unreadable }: PathInfos): Promise<void> {
    for (const path of invalid) reportInvalid(path);
    for (const { path, error } of unreadable) fail({ path, narSize: 0 }, error);
    for (const { ca, deriver } of valid) if (ca !== null && deriver !== null) derivers.add(deriver);
    const { wanted, skipped } = await selector.select(valid);
    for (const { info, why } of skipped) {
      results.setSkipped(info, why);
      display.skipped(info, why);
    }
    const { staged, unstaged } = await earlier.find(wanted);
    for (const { info, batch } of staged) {
      staging.adopt(info, batch);
      results.setStaged(info);
      display.resumed(batch, info);
      publisher?.submit(batch);
    }
    staging.stage(unstaged);
  }

  /** Returns the realisations that the store has of the paths so far. A failure of Nix is a warning. */
  async function findRealisations(derivations: ReadonlySet<string> | null): Promise<Realisation[]> {
    const paths = [...staging.infos.keys(), ...results.all().map(({ path }) => path)];
    try {
      return await queryRealisations(nix, { derivers, drvPaths: derivations ?? [], paths }, asking);
    } catch (error) {
      if (!isNicheError(error, 'nix-failed', 'malformed-realisation')) throw error;
      display.warning(`realisations are not uploaded: ${error.message}`);
      return [];
    }
  }

  /** Stages the realisations of the paths of this upload, see {@link UploadSession.stage}. */
  async function stageRealisations(derivations: ReadonlySet<string> | null): Promise<void> {
    let realisations = await findRealisations(derivations);
    const isUnseen = (path: string): boolean => !staging.infos.has(path) && !results.get(path);
    const unseen = realisations.map(({ outPath }) => outPath).filter(isUnseen);
    if (derivations !== null && unseen.length > 0) {
      const { valid } = await queryPathInfos(nix, unseen, { recursive: true, ...asking });
      const fresh = valid.filter(({ path }) => isUnseen(path));
      await stageGroup({ valid: fresh, invalid: [], unreadable: [] });
      // They may be outputs of other derivations too.
      realisations = await findRealisations(derivations);
    }
    const wanted = realisations.filter(
      ({ outPath }) => staging.infos.has(outPath) || isAvailable(results.get(outPath)),
    );
    const places = await realisationLookups.findRealisations(wanted);
    const unstaged = wanted.filter((_, at) => places[at] === null);
    if (unstaged.length > 0) staging.stageRealisations(unstaged);
  }

  /**
   * Stages references that the publisher misses and this machine has: an upstream may have lost them.
   *
   * @returns whether there were any
   */
  async function stageMissing(): Promise<boolean> {
    if (!options.closure) return false;
    const missing = new Set(results.all().flatMap((result) => result.missing ?? []));
    const unstaged = [...missing].filter(
      (path) => !staging.infos.has(path) && results.get(path)?.code !== 'excluded',
    );
    if (unstaged.length === 0) return false;
    const { valid } = await queryPathInfos(nix, unstaged);
    staging.stage(valid);
    return valid.length > 0;
  }

  /** Lets the next run stage the paths again that had no result although this run waited for them. */
  function forgetUnanswered(): void {
    if (waitMs === 0 || signal?.aborted === true) return;
    outcomes.forgetStaged(
      results.pending().filter((path) => results.get(path)?.status === 'staged'),
    );
  }

  /** Finds out of which conflicting paths the cache has its own, complete and signed. */
  async function findAvailable(): Promise<void> {
    const conflicts = results.all().filter(({ code }) => code === 'conflict');
    await mapConcurrent(conflicts, checksAtOnce, async ({ path }) => {
      if (await isCompletePath(cache, path, options.publicKeys)) results.setAvailable(path);
    });
  }

  return {
    results,
    pendingUpload() {
      const uploads = results.pending().map((path) => staging.batches.get(path)?.upload ?? upload);
      return uploads.includes(upload) ? upload : (uploads[0] ?? upload);
    },
    lookups: () => ({ ...lookups.counts(), receipts: confirmer.requests() }),
    async stage(found, derivations) {
      for await (const infos of found) await stageGroup(infos);
      await stageRealisations(derivations ?? null);
      await staging.finish();
    },
    unfinished() {
      const unstaged = [...staging.infos.keys()].filter((path) => results.get(path) === undefined);
      return [...unstaged, ...results.pending()];
    },
    async publish() {
      try {
        do {
          // When storage fails, the paths staged before are still published.
          await staging.finish().finally(() => publisher?.finish());
          if (publisher) await receipts.read();
          else await receipts.wait();
        } while (await stageMissing());
        await publisher?.publishOthers();
      } finally {
        outcomes.flush();
        await publisher?.close();
      }
      forgetUnanswered();
      await findAvailable();
    },
  };
}

/** Returns whether readers can get a path that was not staged. */
function isAvailable(result: PathResult | undefined): boolean {
  return result?.code === 'present' || result?.code === 'upstream';
}
