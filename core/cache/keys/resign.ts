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
import type { CacheConfig } from '../config.ts';
import { cacheControlOf, contentTypeOf, parseNarInfoKey } from '../layout.ts';
import { readObjectWithInfo } from '../objects.ts';
import { isUnreadableNarInfo } from '../presence.ts';

/** Narinfos worked on at once; they share one audit object. */
const groupSize = 64;
const atOnce = 16;

/** What became of published narinfos, counted. */
export interface ResignCounts {
  /** Have a new signature now. */
  readonly signed: number;
  /** Had every one already. */
  readonly complete: number;
  /** Longer than the signers take. */
  readonly unsignable: number;
  /** Were changed, or taken away, while this worked on them: to be looked at again. */
  readonly changed: number;
  /** Carry no signature of the cache that verifies, or are damaged: not signed, whoever wrote them. */
  readonly unverified: readonly string[];
}

export interface ResignOptions {
  readonly public: Bucket;
  readonly private: Bucket;
  readonly config: Pick<CacheConfig, 'publicKeys' | 'storeDir'>;
  readonly signers: readonly Signer[];
  /** The release, for the audit. */
  readonly version: string;
  readonly onProgress?: (tally: ResignCounts) => void;
  readonly signal?: AbortSignal;
  readonly now?: () => Date;
}

/**
 * Adds what signatures are missing to every published narinfo, in place and touching nothing else.
 * Only what verifies under a key of the cache already is signed. It may be stopped anywhere and run
 * again: it goes on with what is left.
 */
export async function resignNarInfos(options: ResignOptions): Promise<ResignCounts> {
  const { signal, onProgress = () => undefined } = options;
  if (!options.public.capabilities.conditionalReplace) {
    throw new NicheError(
      'usage',
      `${options.public.url} cannot replace an object by its etag: signing it again could undo what another writes`,
      { hint: 'stop every publisher, and copy the cache to a storage that can' },
    );
  }
  let tally: ResignCounts = { signed: 0, complete: 0, unsignable: 0, changed: 0, unverified: [] };
  for await (const group of groupsOf(options.public)) {
    if (signal?.aborted === true) throw new NicheError('aborted', 'stopped signing again');
    tally = await resignGroup(group, tally, options);
    onProgress(tally);
  }
  return tally;
}

async function* groupsOf(bucket: Bucket): AsyncIterable<string[]> {
  let group: string[] = [];
  for await (const { key } of bucket.list('')) {
    if (parseNarInfoKey(key) === null) continue;
    group.push(key);
    if (group.length < groupSize) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

/** A narinfo that is to be replaced. */
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
): Promise<ResignCounts> {
  const outcomes = await mapConcurrent(keys, atOnce, (key) => resignOne(key, options));
  const resigned = outcomes.filter((outcome) => typeof outcome === 'object');
  // Before the signatures can be seen: every visible one has its record.
  if (resigned.length > 0) {
    const at = (options.now?.() ?? new Date()).toISOString();
    const records = resigned.map((each) => auditRecord(each, at, options.version));
    await writeAuditRecords(options.private, records);
  }
  const replaced = await mapConcurrent(resigned, atOnce, ({ key, text, etag }) =>
    options.public.replace(key, Buffer.from(text), etag, {
      contentType: contentTypeOf(key),
      cacheControl: cacheControlOf(key),
    }),
  );
  const count = <T>(list: readonly T[], value: T): number =>
    list.filter((each) => each === value).length;
  const unverified = keys.filter((_, index) => outcomes[index] === 'unverified');
  return {
    signed: before.signed + count(replaced, 'replaced'),
    complete: before.complete + count<unknown>(outcomes, 'complete'),
    unsignable: before.unsignable + count<unknown>(outcomes, 'unsignable'),
    changed: before.changed + count(replaced, 'changed') + count<unknown>(outcomes, 'gone'),
    unverified: [...before.unverified, ...unverified],
  };
}

async function resignOne(
  key: string,
  { public: bucket, config, signers }: ResignOptions,
): Promise<Resigned | 'complete' | 'unsignable' | 'unverified' | 'gone'> {
  const { storeDir, publicKeys } = config;
  const found = await readPublished(bucket, key, storeDir);
  if (typeof found === 'string') return found === 'gone' ? 'gone' : 'unverified';
  const { text, etag, info, signed } = found;
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
        `the signature by ${signer.keyName} of ${info.path} does not verify under ${signer.publicKey}`,
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
  /** What its signatures are over. */
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

/** Puts `lines` behind the signatures that are there, and leaves every other byte as it is. */
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
 * The published narinfos that would not verify any more without the key `leaving`.
 *
 * @returns the first `limit` of them
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
      // One that nobody can read verifies for nobody now.
      if (typeof found === 'string') return null;
      const { info, signed } = found;
      const holds = info.signatures.some((each) => verifyFingerprint(signed, each, remaining));
      return holds ? null : info.path;
    });
    found.push(...depends.filter((path) => path !== null));
    if (found.length >= limit) break;
  }
  return found.slice(0, limit);
}
