import * as z from 'zod';

import { NicheError, isNicheError, messageOf, quote } from '../errors.ts';
import { maxBatchNarBytes, maxBatchPaths, maxManifestBytes, maxReferences } from '../limits.ts';
import { formatContentAddress, parseContentAddress } from '../nix/content-address.ts';
import { canonicalNarHash } from '../nix/hash.ts';
import { parseSignature } from '../nix/keys.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { parseStorePath } from '../nix/store-path.ts';
import type { Bucket } from '../storage/bucket.ts';
import { describeIssues } from './config.ts';
import { manifestKey } from './layout.ts';
import type { BatchId } from './layout.ts';
import { readText } from './objects.ts';

/** The manifest version that this release writes, and the newest that it reads. */
const manifestVersion = 1;

/** `none`: raw NARs end to end; `zstd`: the same bytes, compressed. */
export type StagingEncoding = 'none' | 'zstd';

/** A client's claims about the NARs of one batch, in the order in which the NARs are staged. */
export interface Manifest {
  readonly encoding: StagingEncoding;
  readonly paths: readonly PathInfo[];
}

/** The smallest NAR, an empty directory's, in bytes. */
const minNarBytes = 96;

const entry = z.strictObject({
  path: z.string(),
  narHash: z.string(),
  narSize: z.int().min(minNarBytes),
  references: z.array(z.string()).max(maxReferences),
  deriver: z.string().nullable().default(null),
  ca: z.string().nullable().default(null),
  signatures: z.array(z.string()).max(64).default([]),
});

const document = z.strictObject({
  version: z.literal(manifestVersion),
  encoding: z.enum(['none', 'zstd']),
  paths: z.array(entry).min(1).max(maxBatchPaths),
});

export function formatManifest(manifest: Manifest): string {
  const paths = manifest.paths.map(
    // Only these: what a machine knows of its paths besides is not claimed.
    ({ path, narHash, narSize, references, deriver, ca, signatures }) => {
      return { path, narHash, narSize, references, deriver, ca, signatures };
    },
  );
  return JSON.stringify({ version: manifestVersion, encoding: manifest.encoding, paths });
}

/**
 * Reads and checks a staged manifest; everything in it is brought into canonical form.
 *
 * @returns null when it is gone, which means that the batch has been handled
 * @throws NicheError `malformed-manifest`, naming the field, and what the bucket throws
 */
export async function readManifest(
  bucket: Bucket,
  id: BatchId,
  storeDir: string,
): Promise<Manifest | null> {
  let text: string | null;
  try {
    text = await readText(bucket, manifestKey(id), maxManifestBytes);
  } catch (error) {
    if (isNicheError(error, 'oversized')) {
      throw new NicheError('malformed-manifest', error.message, { cause: error });
    }
    throw error;
  }
  return text === null ? null : parseManifest(text, storeDir);
}

/** @throws NicheError `malformed-manifest`, naming the field */
export function parseManifest(text: string, storeDir: string): Manifest {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new NicheError(
      'malformed-manifest',
      `the manifest is not JSON: ${quote(messageOf(cause))}`,
      {
        cause,
      },
    );
  }
  const version = z.looseObject({ version: z.number() }).safeParse(json);
  if (version.success && version.data.version > manifestVersion) {
    throw new NicheError(
      'malformed-manifest',
      `the manifest has version ${version.data.version}; this publisher reads up to version ${manifestVersion}: upgrade it before its clients`,
    );
  }
  const result = document.safeParse(json);
  if (!result.success) {
    throw new NicheError(
      'malformed-manifest',
      `the manifest is not valid: ${describeIssues(result.error, json)}`,
    );
  }
  const paths = result.data.paths.map((claim, index) => canonicalClaim(claim, index, storeDir));
  const seen = new Set<string>();
  const twice = paths.find(({ path }) => seen.size === seen.add(path).size);
  if (twice) {
    throw new NicheError(
      'malformed-manifest',
      `the manifest lists ${twice.path} twice: expected each path once`,
    );
  }
  const total = paths.reduce((sum, { narSize }) => sum + narSize, 0);
  if (paths.length > 1 && total > maxBatchNarBytes) {
    throw new NicheError(
      'malformed-manifest',
      `the manifest's ${paths.length} NARs have ${total} bytes: expected at most ${maxBatchNarBytes} in a batch of more than one`,
    );
  }
  return { encoding: result.data.encoding, paths };
}

function canonicalClaim(claim: z.infer<typeof entry>, index: number, storeDir: string): PathInfo {
  const field = <T>(name: string, read: () => T): T => {
    try {
      return read();
    } catch (cause) {
      throw new NicheError(
        'malformed-manifest',
        `paths.${index}.${name} of the manifest: ${messageOf(cause)}`,
        { cause },
      );
    }
  };
  const storePath = (text: string): string => parseStorePath(text, storeDir).path;
  return {
    path: field('path', () => storePath(claim.path)),
    narHash: field('narHash', () => canonicalNarHash(claim.narHash)),
    narSize: claim.narSize,
    references: field('references', () => [...new Set(claim.references.map(storePath))].sort()),
    deriver: field('deriver', () => (claim.deriver === null ? null : storePath(claim.deriver))),
    ca: field('ca', () => (claim.ca === null ? null : canonicalAddress(claim.ca))),
    signatures: field('signatures', () =>
      claim.signatures.map((signature) => {
        parseSignature(signature);
        return signature;
      }),
    ),
  };
}

/** A known content address in canonical form; an unknown kind as it came, for its own refusal. */
function canonicalAddress(text: string): string {
  try {
    return formatContentAddress(parseContentAddress(text));
  } catch (error) {
    if (isNicheError(error, 'unsupported-ca')) return text;
    throw error;
  }
}
