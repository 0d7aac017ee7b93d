import { NicheError, quote } from '../../errors.ts';
import { maxNarInfoBytes } from '../../limits.ts';
import { parseNarInfo } from '../../nix/narinfo.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHash } from '../../nix/store-path.ts';
import { listingKey, narInfoKey } from '../layout.ts';
import { readObjectWithInfo, writeBestEffort } from '../objects.ts';
import type { Provenance } from '../audit.ts';
import { blockedError } from '../publish/conflicts.ts';
import { assertSize } from '../publish/ingest.ts';
import type { Candidate } from '../publish/paths.ts';
import { isSignedBy, signaturesBy } from '../signed-narinfo.ts';
import type { AdoptContext } from './context.ts';
import { storeCheckedNar } from './nar-sources.ts';
import { findProvenance } from './provenance.ts';

/** A narinfo without a valid signature of the cache. */
export interface UnsignedNarInfo {
  readonly hash: string;
  readonly etag: string;
  readonly info: NarInfo;
  readonly provenance: Provenance;
}

/**
 * Reads a narinfo and checks all that can be checked without its NAR and its references.
 *
 * @returns null when it is gone, or has a valid signature by now
 * @throws NicheError refusals; `upstream-unavailable`, `storage-…`
 */
export async function readUnsigned(
  context: AdoptContext,
  hash: string,
): Promise<UnsignedNarInfo | null> {
  const { options, publicKeys, blocklist, narInfoSigner } = context;
  const { config, public: bucket } = options;
  const { storeDir, limits } = config;
  const found = await readStoredNarInfo(context, hash);
  if (!found || (await isSignedBy(found.info, storeDir, publicKeys))) return null;
  const { info, etag } = found;
  if (storeHash(info.path) !== hash) {
    const message = `${narInfoKey(hash)} in ${bucket.url} is the narinfo of ${info.path}`;
    throw new NicheError('malformed-narinfo', message);
  }
  if (blocklist.refuses(info)) throw blockedError(info, blocklist);
  const provenance = await assertProvenance(context, info);
  assertSize(info, Infinity, limits.maxNarBytes);
  narInfoSigner.assertSignable(info);
  await assertUpstream(context, info);
  return { hash, etag, info, provenance };
}

/**
 * Reads a narinfo with its etag.
 *
 * @returns null when it is missing
 * @throws NicheError `malformed-narinfo`, `oversized`, `storage-…`
 */
export async function readStoredNarInfo(
  { options }: AdoptContext,
  hash: string,
): Promise<{ readonly info: NarInfo; readonly etag: string } | null> {
  const found = await readObjectWithInfo(options.public, narInfoKey(hash), maxNarInfoBytes);
  if (!found) return null;
  const info = parseNarInfo(found.body.toString('utf8'), options.config.storeDir);
  return { info, etag: found.info.etag };
}

/** @throws NicheError `untrusted-path` */
async function assertProvenance(
  { options, trustedKeys }: AdoptContext,
  info: NarInfo,
): Promise<Provenance> {
  const provenance = await findProvenance(info, options.config.storeDir, trustedKeys);
  if (provenance) return provenance;
  if (options.adoptsUnsigned) return { by: 'nothing' };
  const names = info.signatures.map((signature) => signature.split(':')[0] ?? '');
  const signedBy = names.length > 0 ? `; its signatures are by ${quote(names.join(', '))}` : '';
  throw new NicheError(
    'untrusted-path',
    `nothing shows the origin of ${info.path}: it has no content address and no valid signature of a trusted key${signedBy}`,
  );
}

/** @throws NicheError `upstream-conflict`, `upstream-unavailable` */
async function assertUpstream({ conflicts }: AdoptContext, info: NarInfo): Promise<void> {
  const check = await conflicts.checkUpstreams(info);
  if (check.kind === 'undecided') throw new NicheError('upstream-conflict', check.why);
}

/**
 * Checks and stores the NAR of a path, with its listing.
 *
 * @throws NicheError refusals; `storage-…`
 */
export async function createCandidate(
  context: AdoptContext,
  { hash, info, provenance }: UnsignedNarInfo,
): Promise<Candidate> {
  const { options, trustedKeys, narInfoSigner } = context;
  const { config, public: bucket, isDryRun } = options;
  const { listing, unclaimed, ...nar } = await storeCheckedNar(context, info);
  // Another program may have written a listing that does not match.
  if (listing !== null && !isDryRun) await writeBestEffort(bucket, listingKey(hash), listing);
  // Readers that trusted the former key of the cache can go on using it.
  const ofTrusted = signaturesBy(info, config.storeDir, trustedKeys);
  const signatures = [...new Set([...narInfoSigner.keptSignatures(info), ...ofTrusted])];
  const { url, compression, fileHash, fileSize } = nar;
  return {
    info: { ...info, signatures },
    nar: { url, compression, fileHash, fileSize },
    unclaimed,
    upload: 'adopt',
    origin: null,
    provenance,
  };
}
