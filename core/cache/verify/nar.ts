import { isNicheError, isRejection, messageOf, quote } from '../../errors.ts';
import { parseHash } from '../../nix/hash.ts';
import { formatListing, parseListing } from '../../nix/listing.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import { isKey } from '../../storage/keys.ts';
import { drain } from '../../util/streams.ts';
import { decompressZstd } from '../zstd/stream.ts';
import { createFileHasher } from '../nar/file-hash.ts';
import type { Finding, FindingCode } from './finding.ts';
import { listingKey } from '../layout.ts';
import { createNarCheck } from '../nar/check.ts';
import { parseNarClaim } from '../nar/claim.ts';
import type { SelfReferenceForm } from '../nar/modulo-hash.ts';
import { readText } from '../objects.ts';

/** Reports a finding about one path. */
export type Report = (kind: Finding['kind'], code: FindingCode, message: string) => void;

/** How much longer than niche's own a `.ls` may be, in bytes: other writers add white space. */
const listingSlackBytes = 1024 * 1024;

/**
 * Verifies the NAR of a narinfo, and trusts nothing: the file against FileHash and FileSize, its
 * contents against everything that the publisher must have checked, and its listing.
 *
 * @throws NicheError `storage-…` when an object cannot be read
 */
export async function verifyNar(
  reader: ObjectReader,
  info: NarInfo,
  storeDir: string,
  report: Report,
): Promise<void> {
  if (!isKey(info.url)) {
    report(
      'wrong',
      'bad-url',
      `expected the key of an object in this cache as URL, got ${quote(info.url)}`,
    );
    return;
  }
  const object = await reader.get(info.url);
  if (!object) {
    report('wrong', 'missing-nar', `its NAR ${info.url} is missing`);
    return;
  }
  const expected = info.fileHash === null ? null : parseHash(info.fileHash);
  const tally = await createFileHasher(expected?.algorithm);
  const file = keptOpen(tally.hashStream(upTo(object.body, maxFileBytes(info))));
  let listing: Uint8Array | null = null;
  try {
    listing = await verifyContents(file, info, storeDir, report);
  } catch (error) {
    if (isNicheError(error) && !isRejection(error) && error.code !== 'storage-integrity') {
      throw error;
    }
    const isDecoder = !isNicheError(error);
    report(
      'wrong',
      isDecoder ? 'damaged-file' : error.code,
      isDecoder
        ? `${info.url} does not decompress as ${info.compression}: ${messageOf(error)}`
        : error.message,
    );
  }
  // Reads the rest, too: only the whole file shows whether it or the claim is wrong.
  await drain(file);
  verifyFile(info, tally.facts(), report);
  if (listing) await verifyListing(reader, info, listing, report);
}

async function verifyContents(
  file: AsyncIterable<Uint8Array>,
  info: NarInfo,
  storeDir: string,
  report: Report,
): Promise<Uint8Array | null> {
  if (info.compression !== 'zstd' && info.compression !== 'none') {
    report(
      'unchecked',
      'unsupported-compression',
      `its NAR is compressed as ${quote(info.compression)}; niche reads zstd and none`,
    );
    return null;
  }
  const check = await createNarCheck(parseNarClaim(info, storeDir), {
    unclaimed: 'warn',
    listing: true,
  });
  await drain(check.checkStream(info.compression === 'zstd' ? decompressZstd(file) : file));
  const { listing, selfReferences } = check.facts();
  if (selfReferences !== null) {
    const message = `its content address covers its references to itself ${selfReferenceForms[selfReferences]} can install it`;
    report('note', 'self-references', message);
  }
  return listing;
}

/** Each form in words, and the readers that compute it when they install a path. */
const selfReferenceForms: Readonly<Record<SelfReferenceForm, string>> = {
  positions: 'with their positions; Nix before 2.17, and from 2.35,',
  'no-positions': 'without their positions; only Nix 2.17 to 2.34',
  unmarked: 'with their positions, and its name does not; only Nix before 2.16',
};

function verifyFile(
  info: NarInfo,
  got: { readonly fileHash: string; readonly fileSize: number },
  report: Report,
): void {
  const { fileHash, fileSize, url } = info;
  if (fileHash === null || fileSize === null) {
    const missing = fileHash === null ? 'FileHash' : 'FileSize';
    report('warning', 'missing-file-hash', `its narinfo has no ${missing}`);
  }
  if (fileSize !== null && got.fileSize !== fileSize) {
    const more = got.fileSize > maxFileBytes(info) ? ' or more' : '';
    const message = `${url}: expected ${fileSize} bytes, got ${got.fileSize}${more}`;
    report('wrong', 'file-size-mismatch', message);
  } else if (fileHash !== null && got.fileHash !== fileHash) {
    report('wrong', 'file-hash-mismatch', `${url}: expected ${fileHash}, got ${got.fileHash}`);
  }
}

async function verifyListing(
  reader: ObjectReader,
  info: NarInfo,
  listing: Uint8Array,
  report: Report,
): Promise<void> {
  const key = listingKey(storeHash(info.path));
  const expected = Buffer.from(listing).toString();
  try {
    const text = await readText(reader, key, listing.length + listingSlackBytes);
    if (text === null) {
      report('warning', 'missing-listing', `its listing ${key} is missing`);
    } else if (text !== expected && formatListing(parseListing(text)) !== expected) {
      report('wrong', 'wrong-listing', `${key} does not match the contents of its NAR`);
    }
  } catch (error) {
    if (!isNicheError(error, 'malformed-listing', 'oversized')) throw error;
    report('wrong', 'wrong-listing', `${key} cannot be read: ${error.message}`);
  }
}

/** Returns the limit for reading a file, in bytes: more than any valid file of this NAR has. */
function maxFileBytes({ fileSize, narSize }: NarInfo): number {
  return Math.max(fileSize ?? 0, 2 * narSize + 1024 * 1024);
}

/** Yields chunks of `source` until they exceed `bytes`. */
async function* upTo(source: AsyncIterable<Uint8Array>, bytes: number): AsyncIterable<Uint8Array> {
  let size = 0;
  for await (const chunk of source) {
    yield chunk;
    size += chunk.length;
    if (size > bytes) return;
  }
}

/** Hides `return` from consumers that stop early, so that `source` can be read further. */
function keptOpen(source: AsyncIterator<Uint8Array>): AsyncIterable<Uint8Array> {
  return { [Symbol.asyncIterator]: () => ({ next: () => source.next() }) };
}
