import { eachConcurrent } from '../../util/concurrency.ts';
import { isNicheError, messageOf } from '../../errors.ts';
import { parseCacheInfo } from '../../nix/cache-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import { listBlocked, nothingBlocked } from '../blocklist.ts';
import type { Blocked } from '../blocklist.ts';
import type { Finding } from './finding.ts';
import { auditPrefix, cacheInfoKey, parseNarInfoKey } from '../layout.ts';
import { readText } from '../objects.ts';
import type { Upstreams } from '../upstreams.ts';
import { createAuditTrail } from './audit.ts';
import type { AuditTrail } from './audit.ts';
import { createPathVerifier } from './path.ts';
import type { VerifySubject } from './path.ts';
import { verifyRealisations } from './realisations.ts';
import { createReferenceLocator } from './references.ts';

export interface VerifyOptions {
  /** The public bucket. */
  readonly reader: ObjectReader;
  /** The private bucket; null where it cannot be read. */
  readonly private: Bucket | null;
  readonly storeDir: string;
  /** The cache's public keys, each `<key name>:<base64>`. */
  readonly publicKeys: readonly string[];
  readonly upstreams: Upstreams;
  /** Other keys whose signatures the cache keeps. @default none */
  readonly keepSignatures?: readonly string[] | undefined;
  readonly selection: VerifySelection;
  /** Paths verified at once. @default 8 */
  readonly pathsAtOnce?: number;
  readonly onFinding: (finding: Finding) => void;
  /** Called after each path. */
  readonly onProgress?: (progress: VerifyProgress) => void;
}

/** All narinfos that `all` lists; or the given paths, with all their references if `closure` is set. */
export type VerifySelection =
  | { readonly all: Pick<Bucket, 'list'> }
  | { readonly paths: readonly Pick<VerifySubject, 'hash' | 'path'>[]; readonly closure: boolean };

export interface VerifyProgress {
  /** Number of verified paths, whatever was found. */
  readonly paths: number;
  /** Total size of their uncompressed NARs, in bytes. */
  readonly narBytes: number;
}

export interface VerifyReport extends VerifyProgress {
  /** Number of verified realisations, in both layouts; 0 unless everything is verified. */
  readonly realisations: number;
  /** Whether signatures were compared with the audit log, and paths with the blocklist. */
  readonly audited: boolean;
}

const defaultPathsAtOnce = 8;

/**
 * Verifies a cache without trusting it: each narinfo is well-formed, has a valid signature, its NAR and
 * its references. If the private bucket is readable, each signature must also be in the audit log, and
 * no blocked path may be visible. Memory grows with the number of paths, not with their NARs.
 *
 * @throws NicheError `storage-…` when the cache cannot be listed
 */
export async function verifyCache(options: VerifyOptions): Promise<VerifyReport> {
  const { reader, storeDir, selection, onFinding } = options;
  const blocked = options.private && (await blockedUnlessDenied(options.private));
  const privateRoot = blocked ? options.private : null;
  const shared = { ...options, blocked: blocked ?? nothingBlocked };
  const references = createReferenceLocator(shared);
  const verifyPath = createPathVerifier({ ...shared, references });
  const trail = createAuditTrail();
  let paths = 0;
  let narBytes = 0;
  let realisations = 0;

  /** Verifies the subjects. Returns their references that are in this cache. */
  async function verifyAll(subjects: AsyncIterable<VerifySubject>): Promise<Set<string>> {
    const here = new Set<string>();
    const keepsReferences = 'closure' in selection && selection.closure;
    await eachConcurrent(subjects, options.pathsAtOnce ?? defaultPathsAtOnce, async (subject) => {
      const verified = await verifyPath(subject);
      paths += 1;
      narBytes += verified?.narSize ?? 0;
      for (const signature of verified?.signatures ?? []) {
        trail.expectRecord(verified?.path ?? '', signature);
      }
      if (keepsReferences) verified?.referencesHere.forEach((path) => here.add(path));
      options.onProgress?.({ paths, narBytes });
    });
    return here;
  }

  await verifyCacheInfo(reader, storeDir, onFinding);
  if ('all' in selection) {
    await verifyAll(listed(selection.all));
    realisations = await verifyRealisations(selection.all, { ...shared, references, trail });
  } else {
    const seen = new Set(selection.paths.map(({ hash }) => hash));
    let wave: readonly VerifySubject[] = selection.paths.map((named) => ({
      ...named,
      listed: false,
    }));
    while (wave.length > 0) {
      const found = [...(await verifyAll(each(wave)))];
      wave = found
        .map((path) => ({ hash: storeHash(path), path, listed: false }))
        .filter(({ hash }) => !seen.has(hash));
      for (const { hash } of wave) seen.add(hash);
    }
  }
  const audited = privateRoot !== null && (await verifyAudit(trail, privateRoot, onFinding));
  return { paths, narBytes, realisations, audited };
}

async function* listed(bucket: Pick<Bucket, 'list'>): AsyncIterable<VerifySubject> {
  for await (const { key } of bucket.list('')) {
    const hash = parseNarInfoKey(key);
    if (hash !== null) yield { hash, path: null, listed: true };
  }
}

// eslint-disable-next-line @typescript-eslint/require-await -- an array where a stream is expected
async function* each<T>(items: readonly T[]): AsyncIterable<T> {
  yield* items;
}

/** Lists blocked paths; null when this client may not read the private bucket. */
async function blockedUnlessDenied(bucket: Bucket): Promise<Blocked | null> {
  try {
    return await listBlocked(bucket);
  } catch (error) {
    if (isNicheError(error, 'storage-denied')) return null;
    throw error;
  }
}

/** Returns whether the audit log could be read. */
async function verifyAudit(
  trail: AuditTrail,
  bucket: Bucket,
  onFinding: (finding: Finding) => void,
): Promise<boolean> {
  try {
    await trail.verifyRecords(bucket, onFinding);
    return true;
  } catch (error) {
    if (!isNicheError(error, 'storage-denied', 'storage-unavailable')) throw error;
    const { code, message } = error;
    onFinding({ kind: 'unchecked', subject: auditPrefix, code, message });
    return false;
  }
}

async function verifyCacheInfo(
  reader: ObjectReader,
  storeDir: string,
  onFinding: (finding: Finding) => void,
): Promise<void> {
  const report = (code: Finding['code'], message: string): void => {
    onFinding({ kind: 'wrong', subject: cacheInfoKey, code, message });
  };
  const text = await readText(reader, cacheInfoKey);
  if (text === null) {
    report('missing-cache-info', `${cacheInfoKey} is missing, so Nix does not accept this cache`);
    return;
  }
  try {
    const info = parseCacheInfo(text);
    if (info.storeDir !== storeDir) {
      report('wrong-store-dir', `StoreDir: expected ${storeDir}, got ${info.storeDir}`);
    }
  } catch (error) {
    if (!isNicheError(error, 'malformed-cache-info')) throw error;
    report('malformed-cache-info', messageOf(error));
  }
}
