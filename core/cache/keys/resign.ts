import { mapConcurrent } from '../../util/concurrency.ts';
import { NicheError } from '../../errors.ts';
import { maxNarInfoBytes } from '../../limits.ts';
import { fingerprint } from '../../nix/fingerprint.ts';
import { parsePublicKey, verifyFingerprint } from '../../nix/keys.ts';
import { parseNarInfo } from '../../nix/narinfo.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { Signer } from '../../signing/signer.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { auditedPath, auditedSigner, writeAuditRecords } from '../audit.ts';
import type { AuditRecord, AuditedSigner } from '../audit.ts';
import { openBlocklist } from '../blocklist.ts';
import type { Blocklist } from '../blocklist.ts';
import type { CacheConfig } from '../config.ts';
import { parseNarInfoKey } from '../layout.ts';
import { readObjectWithInfo, replaceObject } from '../objects.ts';
import { isUnreadableNarInfo } from '../read-narinfo.ts';
import { withdrawRefused } from '../withdraw/withdraw.ts';
import { dependsOnKey, listRealisationKeys, resignRealisation } from './resign-realisations.ts';

/** Narinfos that share one audit object. */
const groupSize = 64;
/** Narinfos read or replaced at once. */
const atOnce = 16;

/** Counts of narinfos and realisations by result. */
export interface ResignCounts {
  /** Narinfos that got a new signature. */
  readonly signed: number;
  /** Narinfos that had all signatures already. */
  readonly complete: number;
  /** Narinfos whose fingerprint is longer than a signer accepts. */
  readonly unsignable: number;
  /** Narinfos that changed or disappeared in the meantime; run again for these. */
  readonly changed: number;
  /** Narinfos of blocked paths. They are withdrawn instead. */
  readonly blocked: number;
  /** Keys of narinfos and realisations without a valid signature of the cache, or damaged. These are never signed. */
  readonly unverified: readonly string[];
}

export interface ResignOptions {
  readonly public: Bucket;
  readonly private: Bucket;
  readonly config: Pick<CacheConfig, 'publicKeys' | 'storeDir'>;
  readonly signers: readonly Signer[];
  /** The version of niche, for the audit log. */
  readonly version: string;
  readonly onProgress?: (tally: ResignCounts) => void;
  readonly signal?: AbortSignal;
  readonly now?: () => Date;
}

/**
 * Adds the missing signatures to every published narinfo and realisation, and changes nothing else. Signs only
 * narinfos that already verify under a key of the cache. Withdraws blocked paths that are visible. It
 * can be stopped at any time: the next run continues.
 *
 * @throws NicheError `usage` when the storage cannot replace objects conditionally; `aborted`,
 *   `wrong-key`, `signer-…`, `storage-…`
 */
export async function resignNarInfos(options: ResignOptions): Promise<ResignCounts> {
  const { signal, onProgress = () => undefined } = options;
  if (!options.public.capabilities.conditionalReplace) {
    throw new NicheError(
      'usage',
      `cannot re-sign ${options.public.url}: its storage has no conditional writes, so a concurrent change could be lost`,
      { hint: 'stop every publisher, and copy the cache to a storage with conditional writes' },
    );
  }
  let tally: ResignCounts = {
    ...{ signed: 0, complete: 0, unsignable: 0, changed: 0, blocked: 0 },
    unverified: [],
  };
  const blocklist = await openBlocklist(options.private);
  for await (const group of groupsOf(options.public)) {
    if (signal?.aborted === true) throw new NicheError('aborted', 're-signing was stopped');
    tally = await resignGroup(group, tally, options, blocklist);
    onProgress(tally);
  }
  for await (const group of grouped(listRealisationKeys(options.public))) {
    if (signal?.aborted === true) throw new NicheError('aborted', 're-signing was stopped');
    tally = await resignRealisationGroup(group, tally, options, blocklist);
    onProgress(tally);
  }
  return tally;
}

async function resignRealisationGroup(
  keys: readonly string[],
  before: ResignCounts,
  options: ResignOptions,
  blocklist: Blocklist,
): Promise<ResignCounts> {
  const { now = () => new Date() } = options;
  const outcomes = await mapConcurrent(keys, atOnce, (key) =>
    resignRealisation(key, options, blocklist),
  );
  const refused = new Set(
    outcomes.flatMap((each) => (each.kind === 'blocked' ? [each.outHash] : [])),
  );
  await mapConcurrent([...refused], atOnce, (hash) => withdrawRefused({ ...options, now }, hash));
  const count = (kind: string): number => outcomes.filter((each) => each.kind === kind).length;
  return {
    ...before,
    signed: before.signed + count('signed'),
    complete: before.complete + count('complete'),
    changed: before.changed + count('changed'),
    blocked: before.blocked + count('blocked'),
    unverified: [
      ...before.unverified,
      ...keys.filter((_, index) => outcomes[index]?.kind === 'unverified'),
    ],
  };
}

function groupsOf(bucket: Bucket): AsyncIterable<string[]> {
  return grouped(listNarInfoKeys(bucket));
}

async function* listNarInfoKeys(bucket: Bucket): AsyncIterable<string> {
  for await (const { key } of bucket.list('')) if (parseNarInfoKey(key) !== null) yield key;
}

async function* grouped(keys: AsyncIterable<string>): AsyncIterable<string[]> {
  let group: string[] = [];
  for await (const key of keys) {
    group.push(key);
    if (group.length < groupSize) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

/** A narinfo with new signatures, to be stored. */
interface Resigned {
  readonly key: string;
  readonly text: string;
  readonly etag: string;
  readonly info: NarInfo;
  readonly added: readonly { readonly signature: string; readonly signer: AuditedSigner }[];
}

async function resignGroup(
  keys: readonly string[],
  before: ResignCounts,
  options: ResignOptions,
  blocklist: Blocklist,
): Promise<ResignCounts> {
  const { now = () => new Date() } = options;
  const outcomes = await mapConcurrent(keys, atOnce, (key) => resignOne(key, options, blocklist));
  const resigned = outcomes.filter((outcome) => typeof outcome === 'object');
  // Written before the signatures become visible, so that every visible signature has a record.
  if (resigned.length > 0) {
    const at = now().toISOString();
    const records = resigned.map((each) => auditRecord(each, at, options.version));
    await writeAuditRecords(options.private, records);
  }
  const replaced = await mapConcurrent(resigned, atOnce, ({ key, text, etag }) =>
    replaceObject(options.public, key, text, etag),
  );
  // Some may have been blocked since: a storage may replace a narinfo that was just deleted.
  await blocklist.refresh();
  const refused = keys.filter((key, index) => isRefused(key, outcomes[index], blocklist));
  await mapConcurrent(refused, atOnce, (key) =>
    withdrawRefused({ ...options, now }, parseNarInfoKey(key) ?? ''),
  );
  const signed = resigned.filter(
    ({ key }, index) => replaced[index] === 'replaced' && !refused.includes(key),
  );
  const count = <T>(list: readonly T[], value: T): number =>
    list.filter((each) => each === value).length;
  const unverified = keys.filter((_, index) => outcomes[index] === 'unverified');
  return {
    signed: before.signed + signed.length,
    complete: before.complete + count<unknown>(outcomes, 'complete'),
    unsignable: before.unsignable + count<unknown>(outcomes, 'unsignable'),
    changed: before.changed + count(replaced, 'changed') + count<unknown>(outcomes, 'gone'),
    blocked: before.blocked + refused.length,
    unverified: [...before.unverified, ...unverified],
  };
}

type ResignOutcome = Resigned | 'complete' | 'unsignable' | 'unverified' | 'gone' | 'blocked';

/** Returns whether the path of a narinfo, or its contents, are blocked by now. */
function isRefused(key: string, outcome: ResignOutcome | undefined, blocklist: Blocklist): boolean {
  if (outcome === 'blocked' || blocklist.has(parseNarInfoKey(key) ?? '')) return true;
  return typeof outcome === 'object' && blocklist.refuses(outcome.info);
}

async function resignOne(
  key: string,
  { public: bucket, config, signers }: ResignOptions,
  blocklist: Blocklist,
): Promise<ResignOutcome> {
  const { storeDir, publicKeys } = config;
  const found = await readPublished(bucket, key, storeDir);
  if (typeof found === 'string') return found === 'gone' ? 'gone' : 'unverified';
  const { text, etag, info, signed } = found;
  if (blocklist.refuses(info)) return 'blocked';
  const verifies = (keys: readonly string[]): boolean =>
    info.signatures.some((each) => verifyFingerprint(signed, each, keys.map(parsePublicKey)));
  if (!verifies(publicKeys)) return 'unverified';
  const missing = signers.filter(({ publicKey }) => !verifies([publicKey]));
  if (missing.length === 0) return 'complete';
  const able = missing.filter(({ maxBytes = Infinity }) => Buffer.byteLength(signed) <= maxBytes);
  if (able.length === 0) return 'unsignable';
  const added = await mapConcurrent(able, 1, async (signer) => {
    const { signature, requestId } = await signer.sign(signed);
    if (!verifyFingerprint(signed, signature, [parsePublicKey(signer.publicKey)])) {
      throw new NicheError(
        'wrong-key',
        `the signature of ${info.path} by ${signer.keyName} does not verify under ${signer.publicKey}`,
      );
    }
    return { signature, signer: auditedSigner(signer, requestId) };
  });
  const lines = added.map(({ signature }) => `Sig: ${signature}\n`).join('');
  return { key, text: addLines(text, lines), etag, info, added };
}

interface PublishedNarInfo {
  readonly text: string;
  readonly etag: string;
  readonly info: NarInfo;
  /** The fingerprint. */
  readonly signed: string;
}

async function readPublished(
  bucket: Bucket,
  key: string,
  storeDir: string,
): Promise<PublishedNarInfo | 'gone' | 'unreadable'> {
  try {
    const found = await readObjectWithInfo(bucket, key, maxNarInfoBytes);
    if (!found) return 'gone';
    const text = found.body.toString('utf8');
    const info = parseNarInfo(text, storeDir);
    return { text, etag: found.info.etag, info, signed: fingerprint(info, storeDir) };
  } catch (error) {
    if (isUnreadableNarInfo(error)) return 'unreadable';
    throw error;
  }
}

/** Inserts `lines` after the existing signatures, and keeps every other byte. */
function addLines(narInfo: string, lines: string): string {
  const last = narInfo.lastIndexOf('\nSig: ') + 1;
  const end = narInfo.indexOf('\n', last) + 1;
  return `${narInfo.slice(0, end)}${lines}${narInfo.slice(end)}`;
}

function auditRecord({ info, added }: Resigned, at: string, version: string): AuditRecord {
  return {
    version: 1,
    at,
    ...auditedPath(info),
    unclaimed: { count: 0, first: [] },
    signatures: added.map(({ signature }) => signature),
    signers: added.map(({ signer }) => signer),
    upload: 'resign',
    origin: null,
    publisher: version,
  };
}

/**
 * Finds published paths that would no longer verify without the key `leaving`.
 *
 * @returns the first `limit` store paths, or keys of realisations
 */
export async function findDependents(
  { public: bucket, config }: Pick<ResignOptions, 'public' | 'config'>,
  leaving: string,
  limit = 20,
): Promise<string[]> {
  const remaining = config.publicKeys.filter((key) => key !== leaving).map(parsePublicKey);
  const found: string[] = [];
  for await (const group of groupsOf(bucket)) {
    const depends = await mapConcurrent(group, atOnce, async (key) => {
      const found = await readPublished(bucket, key, config.storeDir);
      // A damaged narinfo does not verify now either.
      if (typeof found === 'string') return null;
      const { info, signed } = found;
      const stillVerifies = info.signatures.some((each) =>
        verifyFingerprint(signed, each, remaining),
      );
      return stillVerifies ? null : info.path;
    });
    found.push(...depends.filter((path) => path !== null));
    if (found.length >= limit) return found.slice(0, limit);
  }
  for await (const key of listRealisationKeys(bucket)) {
    if (await dependsOnKey(bucket, key, config, leaving)) found.push(key);
    if (found.length >= limit) break;
  }
  return found.slice(0, limit);
}
