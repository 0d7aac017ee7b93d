import { baseNameOf, storeHash } from '../../nix/store-path.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import type { CacheConfig } from '../config.ts';
import {
  blockedNarKey,
  listingKey,
  logKey,
  narHashPrefix,
  narInfoKey,
  pendingListingKey,
  pendingLogKey,
  purgedNarKey,
} from '../layout.ts';
import { blockPath } from './block.ts';
import { findNarInfos, findPending, findWithdrawn } from './find-contents.ts';
import type { FoundPath, PendingPath } from './find-contents.ts';
import { createRecord, readRecord } from './records.ts';
import type { BlockedRecord } from './records.ts';
import { removeForever, removeNars, withdrawPath } from './withdraw.ts';
import type { PublicAndPrivate } from './withdraw.ts';

/**
 * How long a purge waits for publishers that read the list of blocked contents before, in
 * milliseconds: longer than the time limit of every deployment. A publisher in a process of its own
 * has no such limit. It has its paths withdrawn afterwards, and the sweep deletes its NAR.
 */
export const defaultPurgeWaitMs = 35 * 60_000;

export interface PurgeOptions extends PublicAndPrivate {
  readonly config: Pick<CacheConfig, 'storeDir'>;
  /** The contents, `sha256:<base32>`. */
  readonly narHash: string;
  /** For people; kept in the records. */
  readonly why: string;
  /** @default {@link defaultPurgeWaitMs} */
  readonly waitMs?: number | undefined;
  readonly now: () => Date;
  readonly sleep: (ms: number) => Promise<void>;
  readonly onProgress?: (progress: PurgeProgress) => void;
}

export type PurgeProgress =
  | { readonly phase: 'searching'; readonly narInfos: number }
  | { readonly phase: 'waiting'; readonly leftMs: number };

export interface PurgeResult {
  /** The store paths with these contents, also those that never were published. */
  readonly paths: readonly string[];
  /** How many of them wait for references. The next sweep rejects them. */
  readonly pending: number;
  /** The keys in the public bucket whose objects are deleted, now or by an earlier purge. */
  readonly keys: readonly string[];
}

/** Paths withdrawn at once. */
const atOnce = 16;
/** Between two reports of the time left, in milliseconds. */
const waitStepMs = 1000;

/**
 * Deletes leaked contents from the cache for good, and refuses them under any name from now on. It can
 * be stopped at any time: the next call continues.
 *
 * The record comes first, since it stops publishers. Then all narinfos are deleted, later those that
 * slow publishers created meanwhile, and the NARs last. So no narinfo is without its NAR.
 */
export async function purgeContents(options: PurgeOptions): Promise<PurgeResult> {
  const { narHash, why, now } = options;
  const at = now().toISOString();
  const since = await startRefusing(options, at);
  const record: BlockedRecord = { at, why, narHash };
  // At once, for readers. The second search finds what publishers create meanwhile.
  const early = await withdrawAll(options, record);
  await waitForPublishers(options, since);
  const late = await withdrawAll(options, record);

  const purged = purgedNarKey(narHash);
  const narKeys: string[] = [];
  for await (const { key } of options.public.list(narHashPrefix(narHash))) narKeys.push(key);
  await createRecord(options.private, purged, { ...record, narKeys });
  const deletedBefore = (await readRecord(options.private, purged))?.narKeys ?? [];
  const known = await findWithdrawn(options.private, narHash);
  const paths = new Map([...known, ...early.paths, ...late.paths].map((each) => [each.path, each]));
  const keys: string[] = [];
  for (const { path } of paths.values()) {
    const hash = storeHash(path);
    if (await withdrawPath(options, hash, removeForever)) {
      keys.push(narInfoKey(hash), listingKey(hash));
    }
  }
  for (const key of logKeysOf([...paths.values()], late.otherDerivers, options.config.storeDir)) {
    await removeForever(options.public, key);
    keys.push(key);
  }
  await removePendingAttachments(options, late.pending);
  const deleted = (await removeNars(options, narHash)) ?? [];
  keys.push(...new Set([...deletedBefore, ...deleted]));
  return { paths: [...paths.keys()].sort(), pending: late.pending.length, keys };
}

/** @returns when the contents were refused first, in milliseconds since 1970 */
async function startRefusing({ private: bucket, narHash, why }: PurgeOptions, at: string) {
  const key = blockedNarKey(narHash);
  const begun = Date.parse(at);
  if ((await createRecord(bucket, key, { at, why, narHash })) === 'created') return begun;
  const record = await readRecord(bucket, key);
  const modified = (await bucket.head(key))?.modified.getTime();
  // The clock of the machine that wrote the record may have been behind, so the later time counts.
  return Math.max(record ? Date.parse(record.at) : begun, modified ?? begun);
}

/** What a search found, all of it withdrawn. */
interface Withdrawn {
  readonly paths: readonly FoundPath[];
  readonly pending: readonly PendingPath[];
  /** The derivers of paths with other contents. */
  readonly otherDerivers: ReadonlySet<string>;
}

/** Withdraws all paths with the contents. */
async function withdrawAll(options: PurgeOptions, record: BlockedRecord): Promise<Withdrawn> {
  const { narHash, onProgress } = options;
  // A path moves from pending to published, never back. In this order none is missed.
  const pending = await findPending(options.private, narHash);
  const { found, otherDerivers } = await findNarInfos(options, narHash, (narInfos) =>
    onProgress?.({ phase: 'searching', narInfos }),
  );
  const paths = [...pending, ...found];
  await mapConcurrent(paths, atOnce, ({ path, deriver }) =>
    blockPath(options, storeHash(path), { ...record, path, deriver }),
  );
  return { paths, pending, otherDerivers };
}

/** Waits until every publisher must have read the record. */
async function waitForPublishers(options: PurgeOptions, since: number): Promise<void> {
  const { waitMs = defaultPurgeWaitMs, now, sleep, onProgress } = options;
  // The clock of the machine that wrote the record may be ahead.
  const end = Math.min(since, now().getTime()) + waitMs;
  for (;;) {
    const leftMs = end - now().getTime();
    if (leftMs <= 0) return;
    onProgress?.({ phase: 'waiting', leftMs });
    await sleep(Math.min(leftMs, waitStepMs));
  }
}

/** Returns the keys of the build logs that belong to no other path. */
function logKeysOf(
  paths: readonly FoundPath[],
  otherDerivers: ReadonlySet<string>,
  storeDir: string,
): string[] {
  const derivers = new Set(paths.flatMap(({ deriver }) => deriver ?? []));
  return [...derivers]
    .filter((deriver) => !otherDerivers.has(deriver))
    .map((deriver) => logKey(baseNameOf(deriver, storeDir)));
}

/** The records stay: with them, a publisher reports the rejection. */
async function removePendingAttachments(
  { private: bucket }: PurgeOptions,
  pending: readonly PendingPath[],
): Promise<void> {
  for (const { path, upload } of pending) {
    for (const keyOf of [pendingListingKey, pendingLogKey]) {
      await removeForever(bucket, keyOf(storeHash(path), upload));
    }
  }
}

/**
 * Accepts contents again that were refused.
 *
 * @returns whether they were refused
 */
export async function unblockContents(
  { private: bucket }: Pick<PublicAndPrivate, 'private'>,
  narHash: string,
): Promise<boolean> {
  const wasBlocked = (await bucket.head(blockedNarKey(narHash))) !== null;
  // First the marker by which sweeps delete NARs.
  await bucket.delete([purgedNarKey(narHash)]);
  await bucket.delete([blockedNarKey(narHash)]);
  return wasBlocked;
}
