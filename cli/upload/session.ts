import { NicheError, isNicheError, messageOf } from '../../core/errors.ts';
import type {
  LocalPublisher,
  LocalPublisherOptions,
} from '../../core/cache/publish/local-publisher.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import type { PublishResult } from '../../core/cache/publish/report.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import { isLarge } from '../../core/cache/stage/batcher.ts';
import { isFinal } from '../../core/cache/receipts/receipts.ts';
import type { Outcome } from '../../core/cache/receipts/receipts.ts';
import { createStager } from '../../core/cache/stage/stager.ts';
import { newUploadId } from '../../core/cache/upload-id.ts';
import { createLookups } from '../../core/cache/stage/lookups.ts';
import type { LookupCounts } from '../../core/cache/stage/lookups.ts';
import type { PathInfo, PathInfos } from '../../core/nix/path-info.ts';
import { readBuildLog } from '../nix/logs.ts';
import type { Nix } from '../nix/nix.ts';
import { packTree } from '../nix/pack-tree.ts';
import { queryPathInfos } from '../nix/query.ts';
import { count } from '../ui/format.ts';
import type { Progress } from '../ui/progress.ts';
import { createEarlierUploads } from './earlier.ts';
import type { LocalRecord } from './local-record.ts';
import { createReceiptPolling } from './receipt-polling.ts';
import { createResults } from './results.ts';
import type { PathResult, Results } from './results.ts';
import { createSelector, referencesFirst } from './select.ts';

/** Opens a publisher in this process. */
export type OpenPublisher = (
  onPublished: (published: PublishResult) => void,
  onEnded?: LocalPublisherOptions['onEnded'],
) => LocalPublisher;

export interface UploadOptions {
  /** What this machine remembers of the cache. */
  readonly record: LocalRecord;
  readonly nix: Nix;
  readonly cache: OpenCache;
  readonly exclude: RegExp | null;
  /** Whether everything that a path refers to goes with it. */
  readonly closure: boolean;
  /** Whether it is a failure when a path is not in the store: the user named it. */
  readonly mustExist: boolean;
  readonly logs: boolean;
  /** How long no receipt may come before waiting ends, in milliseconds. */
  readonly waitMs: number;
  /** Publishes in this process what is staged; null where another publisher does. */
  readonly publisher: OpenPublisher | null;
  readonly progress: Progress;
  readonly signal?: AbortSignal | undefined;
}

/** Uploads store paths as they become known, and says in the end what became of each. */
export interface UploadSession {
  readonly id: string;
  readonly results: Results;
  /** The upload to ask about what is not published yet: this one, or an earlier one's rest. */
  openUpload(): string;
  /** What it has cost to find out what the cache lacks. */
  lookups(): LookupCounts;
  /** Uploads what comes; resolves when that has ended and all is staged. */
  take(found: AsyncIterable<PathInfos>): Promise<void>;
  /** The paths that are to be published and are not yet, as far as they are known. */
  unfinished(): string[];
  /**
   * Waits for the publisher, as long as it makes progress. One in this process also publishes what
   * other runs have staged and left.
   *
   * @throws the first failure of nix, storage, an upstream or a signer
   */
  settle(): Promise<readonly PathResult[]>;
}

export function createUploadSession(options: UploadOptions): UploadSession {
  const { nix, cache, progress } = options;
  const id = newUploadId();
  const results = createResults();
  const { known: knownPaths, journal } = options.record;
  const lookups = createLookups(cache, knownPaths);
  const selector = createSelector(lookups, options.exclude);
  const earlier = createEarlierUploads(cache.private, journal);
  const local = new Map<string, PathInfo>();
  /** Where each path is staged: in a batch of this upload, or of one that was killed. */
  const batches = new Map<string, BatchId>();
  let unremembered: { readonly path: string; readonly outcome: Outcome }[] = [];

  const publisher = options.publisher?.(({ path, upload, outcome }) => {
    if (path === null || batches.get(path)?.upload !== upload) return;
    settled(path, outcome);
    progress.detail(`${outcome.status} ${path}`);
    showState();
  });

  progress.detail(`upload ${id}`);
  const stager = createStager({
    bucket: cache.private,
    upload: id,
    storeDir: cache.config.storeDir,
    signal: options.signal,
    journal,
    onStaged(batch, infos) {
      for (const info of infos) {
        batches.set(info.path, batch);
        results.staged(info);
      }
      progress.detail(`staged batch ${batch.batch} with ${count(infos.length, 'path')}`);
      publisher?.submit(batch);
      showState();
    },
    onFailed(info, error) {
      // What is broken off on request has not failed.
      if (options.signal?.aborted !== true) tellFailed(info, error);
    },
  });

  const receipts = createReceiptPolling({
    bucket: cache.private,
    waitMs: options.waitMs,
    signal: options.signal,
    results,
    batches,
    onOutcome: settled,
    onLooked: showState,
  });

  function settled(path: string, outcome: Outcome): void {
    results.settled(path, outcome);
    if (unremembered.length === 0) setImmediate(remember);
    unremembered.push({ path, outcome });
  }

  /** Notes what was heard by now for the next run, together: each time takes a transaction. */
  function remember(): void {
    const heard = unremembered;
    unremembered = [];
    // Readers miss them, whatever was seen before.
    knownPaths.forgetPaths(heard.flatMap(({ outcome }) => outcome.missing ?? []));
    const final = heard.filter(({ outcome }) => isFinal(outcome.status));
    const infosOf = (which: typeof heard): PathInfo[] =>
      which.flatMap(({ path }) => local.get(path) ?? []);
    journal.forgetStaged(infosOf(final));
    const present = final.filter(({ outcome }) => outcome.status !== 'rejected');
    knownPaths.rememberPaths(infosOf(present), 'present');
  }

  function tellFailed(info: Pick<PathInfo, 'path' | 'narSize'>, error: unknown): void {
    results.failed(info, error);
    const message = messageOf(error);
    const subject = message.includes(info.path) ? '' : ` ${info.path}`;
    progress.line(`could not stage${subject}: ${message}`);
    if (isNicheError(error) && error.hint !== undefined) progress.line(error.hint);
  }

  function showState(): void {
    progress.state(() => {
      const published = results.all().filter(({ status }) => status === 'published').length;
      return `${published} published, ${results.unsettled().length} staged`;
    });
  }

  function stage(infos: readonly PathInfo[]): void {
    for (const info of infos) local.set(info.path, info);
    // The largest first: it takes longest. The small ones share batches, references first.
    const bySize = [...infos].sort((one, other) => other.narSize - one.narSize);
    const large = bySize.filter(isLarge);
    const small = infos.filter((info) => !isLarge(info));
    for (const info of [...large, ...referencesFirst(small)]) {
      const { deriver } = info;
      stager.addPath({
        info,
        openNar: () => packTree(nix.realPath(info.path), { signal: options.signal }),
        ...(options.logs && deriver !== null ? { readLog: () => readBuildLog(nix, deriver) } : {}),
      });
    }
  }

  async function consider({ valid, invalid }: PathInfos): Promise<void> {
    for (const path of invalid) {
      const message = `${path} is not in the store ${nix.realStoreDir}: it was collected, or never built`;
      if (options.mustExist) tellFailed({ path, narSize: 0 }, new NicheError('not-found', message));
      else progress.line(message);
    }
    const { wanted, skipped } = await selector.select(valid);
    for (const { info, why } of skipped) {
      results.skipped(info, why);
      progress.detail(`not staged (${why}): ${info.path}`);
    }
    const { staged, unstaged } = await earlier.find(wanted);
    for (const { info, batch } of staged) takeUp(info, batch);
    stage(unstaged);
  }

  /** What a run that was killed has staged is not staged twice. */
  function takeUp(info: PathInfo, batch: BatchId): void {
    local.set(info.path, info);
    batches.set(info.path, batch);
    results.staged(info);
    progress.detail(`staged before, in upload ${batch.upload}: ${info.path}`);
    publisher?.submit(batch);
  }

  /** Stages what the publisher waits for and this machine has, whatever an upstream said of it. */
  async function stageMissing(): Promise<boolean> {
    if (!options.closure) return false;
    const missing = new Set(results.all().flatMap((result) => result.missing ?? []));
    const unstaged = [...missing].filter((path) => {
      const code = results.get(path)?.code;
      return !local.has(path) && code !== 'excluded';
    });
    if (unstaged.length === 0) return false;
    const { valid } = await queryPathInfos(nix, unstaged);
    stage(valid);
    return valid.length > 0;
  }

  /** Of what nobody has spoken in all the time that was waited: the next run stages it anew. */
  function forgetUnheard(): void {
    if (options.waitMs === 0 || options.signal?.aborted === true) return;
    const unheard = results.unsettled().filter((path) => results.get(path)?.status === 'staged');
    journal.forgetStaged(unheard.flatMap((path) => local.get(path) ?? []));
  }

  return {
    id,
    results,
    openUpload() {
      const uploads = results.unsettled().map((path) => batches.get(path)?.upload ?? id);
      return uploads.includes(id) ? id : (uploads[0] ?? id);
    },
    lookups: () => lookups.counts(),
    async take(found) {
      for await (const infos of found) await consider(infos);
      await stager.finish();
    },
    unfinished() {
      const unstaged = [...local.keys()].filter((path) => results.get(path) === undefined);
      return [...unstaged, ...results.unsettled()];
    },
    async settle() {
      try {
        do {
          // What was staged before storage failed is published all the same.
          await stager.finish().finally(() => publisher?.idle());
          if (publisher) await receipts.read();
          else await receipts.wait();
        } while (await stageMissing());
        if (publisher) {
          // What a killed run has left: nobody else may ever publish it.
          await publisher.submitStaged();
          await publisher.idle();
          await publisher.sweep();
        }
      } finally {
        remember();
        await publisher?.close();
      }
      forgetUnheard();
      return results.all();
    },
  };
}
