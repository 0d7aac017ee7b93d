import * as z from 'zod';

import { NicheError, messageOf } from '../errors.ts';
import { maxBatchNarBytes, maxBatchPaths, maxManifestBytes, maxReferences } from '../limits.ts';
import { canonicalContentAddress } from '../nix/content-address.ts';
import { canonicalNarHash } from '../nix/hash.ts';
import { parseSignature } from '../nix/keys.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { parseStorePath } from '../nix/store-path.ts';
import type { Bucket } from '../storage/bucket.ts';
import { manifestKey } from './layout.ts';
import type { BatchId } from './layout.ts';
import { parseStoredJson, readBoundedObject } from './stored-json.ts';
import type { JsonFormat } from './stored-json.ts';

/** The manifest version that this release writes, and the newest that it reads. */
const manifestVersion = 1;

/** `none`: raw NARs end to end; `zstd`: the same bytes, compressed. */
export type StagingEncoding = 'none' | 'zstd';

/** A client's claims about the NARs of one batch, in the order in which the NARs are staged. */
export interface Manifest {
  readonly encoding: StagingEncoding;
  readonly paths: readonly PathInfo[];
}

/** The size of an empty directory's NAR, the smallest of all, in bytes. */
const minNarBytes = 96;

/** Reports one issue for the whole list: one for each element of a bad manifest would fill the memory. */
const referenceList = z.custom<readonly string[]>(
  (value) =>
    Array.isArray(value) &&
    value.length <= maxReferences &&
    value.every((item) => typeof item === 'string'),
  { error: `expected at most ${maxReferences} strings` },
);

/** A claim about a path, as manifests and pending records store it. */
export const claim = z.strictObject({
  path: z.string(),
  narHash: z.string(),
  narSize: z.int().min(minNarBytes),
  references: referenceList,
  deriver: z.string().nullable().default(null),
  ca: z.string().nullable().default(null),
  signatures: z.array(z.string()).max(64).default([]),
});

const document = z.strictObject({
  version: z.literal(manifestVersion, {
    error: ({ input }) =>
      typeof input === 'number' && input > manifestVersion
        ? `this publisher reads up to version ${manifestVersion}: upgrade it before its clients`
        : `expected ${manifestVersion}`,
  }),
  encoding: z.enum(['none', 'zstd']),
  paths: z.array(claim).min(1).max(maxBatchPaths),
});

const manifestFormat: JsonFormat<z.infer<typeof document>> = {
  code: 'malformed-manifest',
  schema: document,
  maxBytes: maxManifestBytes,
};

export function formatManifest(manifest: Manifest): string {
  const paths = manifest.paths.map(
    // Other fields of a path are the machine's own business and not claims.
    ({ path, narHash, narSize, references, deriver, ca, signatures }) => {
      return { path, narHash, narSize, references, deriver, ca, signatures };
    },
  );
  return JSON.stringify({ version: manifestVersion, encoding: manifest.encoding, paths });
}

/**
 * Reads and checks a staged manifest, and brings every field into canonical form.
 *
 * @returns the manifest and the etag of its object; null when it is missing, which means that the batch
 *   is finished
 * @throws NicheError `malformed-manifest`, naming the field; `storage-…` when it cannot be read
 */
export async function readManifest(
  bucket: Bucket,
  id: BatchId,
  storeDir: string,
): Promise<{ readonly manifest: Manifest; readonly etag: string } | null> {
  const found = await readBoundedObject(bucket, manifestKey(id), manifestFormat);
  return found && { manifest: parseManifest(found.text, storeDir), etag: found.etag };
}

/** @throws NicheError `malformed-manifest`, naming the field */
export function parseManifest(text: string, storeDir: string): Manifest {
  const parsed = parseStoredJson(text, 'the manifest', manifestFormat);
  const paths = parsed.paths.map((claim, index) =>
    canonicalClaim(claim, storeDir, (field, cause) => {
      const where = `paths.${index}.${field} of the manifest`;
      return new NicheError('malformed-manifest', `${where}: ${messageOf(cause)}`, { cause });
    }),
  );
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
  return { encoding: parsed.encoding, paths };
}

/**
 * Brings every field of a claim into canonical form.
 *
 * @param refuse creates the error for a field that is not valid
 */
export function canonicalClaim(
  { path, narHash, narSize, references, deriver, ca, signatures }: PathInfo,
  storeDir: string,
  refuse: (field: string, cause: unknown) => NicheError,
): PathInfo {
  const field = <T>(name: string, read: () => T): T => {
    try {
      return read();
    } catch (cause) {
      throw refuse(name, cause);
    }
  };
  const storePath = (text: string): string => parseStorePath(text, storeDir).path;
  return {
    path: field('path', () => storePath(path)),
    narHash: field('narHash', () => canonicalNarHash(narHash)),
    narSize,
    references: field('references', () => [...new Set(references.map(storePath))].sort()),
    deriver: field('deriver', () => (deriver === null ? null : storePath(deriver))),
    ca: field('ca', () => (ca === null ? null : canonicalContentAddress(ca))),
    signatures: field('signatures', () => {
      for (const signature of signatures) parseSignature(signature);
      return signatures;
    }),
  };
}
