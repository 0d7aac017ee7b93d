import { isRealisationKey } from '../nix/realisation.ts';
import type { Bucket } from '../storage/bucket.ts';

/** The roots of a cache. Each object belongs to exactly one of them, see {@link rootOf}. */
export const rootNames = ['public', 'staging', 'private'] as const;

export type RootName = (typeof rootNames)[number];

/**
 * The three roots of a cache: buckets of their own, except in a directory. Nix and its users read the
 * public one. Clients create objects in the staging one and read its receipts. Only publishers and
 * administrators access the private one. All keys below are relative to a root.
 */
export type CacheBuckets = Readonly<Record<RootName, Bucket>>;

export const cacheInfoKey = 'nix-cache-info';
export const configKey = 'niche.json';
export const clientConfigKey = 'niche.client.json';
export const signingConfigKey = 'niche.signing.json';

export const narInfoKey = (storeHash: string): string => `${storeHash}.narinfo`;
export const listingKey = (storeHash: string): string => `${storeHash}.ls`;
export const logPrefix = 'log/';
export const logKey = (drvName: string): string => `${logPrefix}${drvName}`;

export const debugPrefix = 'debuginfo/';
/** Leads to the debug file of a program. */
export const debugKey = (buildId: string): string => `${debugPrefix}${buildId}.debug`;

export const narPrefix = 'nar/';

export const stagingPrefix = 'staging/';
export const uploadPrefix = (upload: string): string => `${stagingPrefix}${upload}/`;
export const manifestKey = ({ upload, batch }: BatchId): string =>
  `${uploadPrefix(upload)}${batch}.json`;
export const stagedNarsKey = ({ upload, batch }: BatchId, encoding: 'none' | 'zstd'): string =>
  `${uploadPrefix(upload)}${batch}.nars${encoding === 'zstd' ? '.zst' : ''}`;
export const stagedLogKey = (upload: string, drvName: string): string =>
  `${uploadPrefix(upload)}${drvName}.log`;

export const receiptsPrefix = 'receipts/';
export const receiptPrefix = (upload: string): string => `${receiptsPrefix}${upload}/`;
export const receiptKey = (upload: string, subject: string, status: string): string =>
  `${receiptPrefix(upload)}${subject}.${status}.json`;
/** The key of a receipt for several paths; `statuses` lists the statuses among them. */
export const batchReceiptKey = (
  { upload, batch }: BatchId,
  id: string,
  statuses: readonly string[],
): string => `${receiptPrefix(upload)}${batch}.${id}.${statuses.join('-')}.json`;

export const pendingPrefix = 'pending/';
export const pendingKey = (storeHash: string, upload: string): string =>
  `${pendingPrefix}${storeHash}/${upload}.json`;
export const pendingListingKey = (storeHash: string, upload: string): string =>
  `${pendingPrefix}${storeHash}/${upload}.ls`;
export const pendingLogKey = (storeHash: string, upload: string): string =>
  `${pendingPrefix}${storeHash}/${upload}.log`;

/** The pending record of a realisation that waits for its output. */
export const pendingRealisationKey = (hash: string, upload: string): string =>
  `${pendingPrefix}${hash}/${upload}.doi`;

export const waitingPrefix = 'waiting/';
export const waitingForPrefix = (referenceHash: string): string =>
  `${waitingPrefix}${referenceHash}/`;
export const waitingKey = ({ reference, storeHash, upload }: WaitingMarker): string =>
  `${waitingForPrefix(reference)}${storeHash}.${upload}`;

export const blockedPrefix = 'blocked/';
/** Marks a withdrawn path. */
export const blockedKey = (storeHash: string): string => `${blockedPrefix}${storeHash}`;
/** Marks contents that are refused under every name. */
export const blockedNarKey = (narHash: string): string =>
  `${blockedPrefix}nar-${digestOf(narHash)}`;
/** Marks refused contents whose objects a purge has deleted. */
export const purgedNarKey = (narHash: string): string =>
  `${blockedPrefix}purged-${digestOf(narHash)}`;
/** Marks a path that was withdrawn and may be published again. */
export const unblockedKey = (storeHash: string, id: string): string =>
  `${blockedPrefix}undone-${storeHash}-${id}`;
/** Marks a path whose narinfo a process is deleting. */
export const withdrawingKey = (storeHash: string, id: string): string =>
  `${blockedPrefix}deleting-${storeHash}-${id}`;
/** Marks contents whose NARs a process is deleting. */
export const purgingKey = (narHash: string, id: string): string =>
  `${blockedPrefix}purging-${digestOf(narHash)}-${id}`;
/** Lists the realisations of an output, so that a withdrawal finds them. */
export const realisedPrefix = 'realised/';
export const realisedByPrefix = (outHash: string): string => `${realisedPrefix}${outHash}/`;
export const realisedKey = (outHash: string, hash: string): string =>
  `${realisedByPrefix(outHash)}${hash}.json`;
export const auditPrefix = 'audit/';
export const attemptsPrefix = 'attempts/';
/** What a publisher stores about its attempts at a batch. */
export const attemptPrefix = ({ upload, batch }: BatchId): string =>
  `${attemptsPrefix}${upload}/${batch}/`;
export const finishedPrefix = (id: BatchId): string => `${attemptPrefix(id)}finished.`;
export const finishedKey = (id: BatchId, storeHash: string): string =>
  `${finishedPrefix(id)}${storeHash}`;
/** The lease of the one process that may publish to a storage without conditional writes. */
export const publishersPrefix = 'publishers/';

const stagingPrefixes = [stagingPrefix, receiptsPrefix];
/** The prefixes of all keys in the private root, except that of the signing document. */
export const privatePrefixes = [
  pendingPrefix,
  waitingPrefix,
  blockedPrefix,
  realisedPrefix,
  auditPrefix,
  attemptsPrefix,
  publishersPrefix,
];

/** Returns the root that `key` belongs to. */
export function rootOf(key: string): RootName {
  const isIn = (prefixes: readonly string[]): boolean =>
    prefixes.some((prefix) => key.startsWith(prefix));
  if (isIn(stagingPrefixes)) return 'staging';
  return key === signingConfigKey || isIn(privatePrefixes) ? 'private' : 'public';
}

/** Returns the base32 digest of a NAR hash in canonical form, `sha256:<base32>`. */
function digestOf(narHash: string): string {
  return narHash.slice('sha256:'.length);
}

/** The prefix of the keys of all NARs with this hash. */
export const narHashPrefix = (narHash: string): string => `${narPrefix}${digestOf(narHash)}`;

/** One batch of one upload. */
export interface BatchId {
  /** The UUIDv7 of the client session. */
  readonly upload: string;
  /** Counts from 0 within the upload. */
  readonly batch: number;
}

/** Marks that a path waits for a reference. Both are store hashes. */
export interface WaitingMarker {
  readonly reference: string;
  readonly storeHash: string;
  readonly upload: string;
}

const uuid = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
const hash = '[0-9a-df-np-sv-z]{32}';
const narDigest = '[0-9a-df-np-sv-z]{52}';
const manifestGrammar = new RegExp(`^staging/(${uuid})/(0|[1-9][0-9]{0,8})\\.json$`);
const pendingGrammar = new RegExp(`^pending/(${hash})/(${uuid})\\.json$`);
const pendingRealisationGrammar = new RegExp(`^pending/(${hash})/(${uuid})\\.doi$`);
const waitingGrammar = new RegExp(`^waiting/(${hash})/(${hash})\\.(${uuid})$`);
const narInfoGrammar = new RegExp(`^(${hash})\\.narinfo$`);
const storeHashGrammar = new RegExp(`^${hash}$`);
const uploadGrammar = new RegExp(`^${uuid}$`);
const blockedGrammar = new RegExp(
  `^blocked/(?:(${hash})|(nar|purged|purging)-(${narDigest})|(undone|deleting)-(${hash}))(?:-[0-9a-f]{16})?$`,
);
const publicGrammar = new RegExp(
  `^(?:nix-cache-info|niche\\.json|niche\\.client\\.json|${hash}\\.(?:narinfo|ls)|nar/[0-9A-Za-z.-]+|log/[0-9A-Za-z+._?=-]+|debuginfo/[0-9a-f]{40}\\.debug)$`,
);

/** Returns the batch of a manifest's key; null for every other key. */
export function parseManifestKey(key: string): BatchId | null {
  const match = manifestGrammar.exec(key);
  return match ? { upload: match[1] ?? '', batch: Number(match[2]) } : null;
}

/** Returns the path and upload of a pending record's key; null for every other key. */
export function parsePendingKey(key: string): { storeHash: string; upload: string } | null {
  const match = pendingGrammar.exec(key);
  return match ? { storeHash: match[1] ?? '', upload: match[2] ?? '' } : null;
}

/** Returns the realisation and upload of a pending record's key; null for every other key. */
export function parsePendingRealisationKey(
  key: string,
): { storeHash: string; upload: string } | null {
  const match = pendingRealisationGrammar.exec(key);
  return match ? { storeHash: match[1] ?? '', upload: match[2] ?? '' } : null;
}

/** Parses the key of a waiting marker; null for every other key. */
export function parseWaitingKey(key: string): WaitingMarker | null {
  const match = waitingGrammar.exec(key);
  return match
    ? { reference: match[1] ?? '', storeHash: match[2] ?? '', upload: match[3] ?? '' }
    : null;
}

/** An object below `blocked/`: what it marks, and the store hash or the NAR hash. */
export interface BlockedMarker {
  readonly kind: 'path' | 'undone' | 'deleting' | 'nar' | 'purged' | 'purging';
  /** A store hash; for the last three kinds a NAR hash, `sha256:<base32>`. */
  readonly hash: string;
}

/** Parses the key of a marker below `blocked/`; null for every other key. */
export function parseBlockedKey(key: string): BlockedMarker | null {
  const [, path, nar, narDigest = '', state, storeHash = ''] = blockedGrammar.exec(key) ?? [];
  if (path !== undefined) return { kind: 'path', hash: path };
  const kind = (nar ?? state) as BlockedMarker['kind'] | undefined;
  if (kind === undefined) return null;
  return { kind, hash: nar === undefined ? storeHash : `sha256:${narDigest}` };
}

/** Returns the store hash of a narinfo's key; null for every other key. */
export function parseNarInfoKey(key: string): string | null {
  return narInfoGrammar.exec(key)?.[1] ?? null;
}

export function isStoreHash(text: string): boolean {
  return storeHashGrammar.test(text);
}

export function isUploadId(text: string): boolean {
  return uploadGrammar.test(text);
}

/** Returns whether everyone may read `key`, also where all roots are one directory. */
export function isPublicObject(key: string): boolean {
  return publicGrammar.test(key) || isRealisationKey(key);
}

const json = 'application/json';

/** Returns the `Content-Type` with which the object is stored and served. */
export function contentTypeOf(key: string): string {
  if (key === cacheInfoKey) return 'text/x-nix-cache-info';
  if (key.endsWith('.narinfo')) return 'text/x-nix-narinfo';
  if (key.startsWith(narPrefix)) return 'application/x-nix-nar';
  if (key.startsWith('log/') || key.endsWith('.log')) return 'text/plain; charset=utf-8';
  if (key.endsWith('.jsonl')) return 'application/x-ndjson';
  if (key.startsWith(debugPrefix) || /\.(?:json|ls|doi)$/.test(key)) return json;
  return 'application/octet-stream';
}

/** Returns the `Cache-Control` with which the object is stored and served. */
export function cacheControlOf(key: string): string | undefined {
  if (key.startsWith(narPrefix) || key.endsWith('.ls'))
    return 'public, max-age=31536000, immutable';
  if (key === configKey || key === clientConfigKey || key === signingConfigKey) return 'no-cache';
  return undefined;
}
