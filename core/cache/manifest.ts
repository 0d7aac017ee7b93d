import * as z from 'zod';

import { NicheError, messageOf } from '../errors.ts';
import {
  maxBatchNarBytes,
  maxBatchPaths,
  maxBatchRealisations,
  maxManifestBytes,
  maxReferences,
} from '../limits.ts';
import { canonicalContentAddress } from '../nix/content-address.ts';
import { canonicalNarHash } from '../nix/hash.ts';
import { parseSignature } from '../nix/keys.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { canonicalRealisation, realisationName } from '../nix/realisation.ts';
import type { Realisation } from '../nix/realisation.ts';
import { parseStorePath } from '../nix/store-path.ts';
import type { Bucket } from '../storage/bucket.ts';
import { manifestKey } from './layout.ts';
import type { BatchId } from './layout.ts';
import { checkDocument, parseStoredJson, readBoundedObject } from './stored-json.ts';
import type { JsonFormat } from './stored-json.ts';

/** The manifest version that this release writes, and the newest that it reads. */
const manifestVersion = 1;

/** `none`: raw NARs end to end; `zstd`: the same bytes, compressed. */
export type StagingEncoding = 'none' | 'zstd';

/** A client's claims about the NARs of one batch, in the order in which the NARs are staged. */
export interface Manifest {
  readonly encoding: StagingEncoding;
  readonly paths: readonly PathInfo[];
  /** A batch has either paths or realisations. */
  readonly realisations: readonly Realisation[];
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

/** A claim about a realisation, as manifests and pending records store it. */
export const realisationClaim = z.strictObject({
  drvHash: z.string(),
  drvPath: z.string(),
  output: z.string(),
  outPath: z.string(),
});

/**
 * Checks what a publisher would check, since one bad claim makes it refuse the whole manifest.
 *
 * @throws NicheError `too-large` for too many references, `malformed-path-info`
 */
export function assertClaim(info: PathInfo, storeDir: string): void {
  const { path, references } = info;
  if (references.length > maxReferences) {
    throw new NicheError(
      'too-large',
      `${path} has too many references: expected at most ${maxReferences}, got ${references.length}`,
    );
  }
  checkDocument(claimOf(info), `the info of ${path}`, claimFormat);
  canonicalClaim(info, storeDir, (field, cause) => {
    const message = `${field} in the info of ${path}: ${messageOf(cause)}`;
    return new NicheError('malformed-path-info', message, { cause });
  });
}

const claimFormat: JsonFormat<z.infer<typeof claim>> = {
  code: 'malformed-path-info',
  schema: claim,
  maxBytes: maxManifestBytes,
};

/** Other fields of a path are the machine's own business and not claims. */
function claimOf(info: PathInfo): PathInfo {
  const { path, narHash, narSize, references, deriver, ca, signatures } = info;
  return { path, narHash, narSize, references, deriver, ca, signatures };
}

const document = z.strictObject({
  version: z.literal(manifestVersion, {
    error: ({ input }) =>
      typeof input === 'number' && input > manifestVersion
        ? `this publisher reads up to version ${manifestVersion}: upgrade it before its clients`
        : `expected ${manifestVersion}`,
  }),
  encoding: z.enum(['none', 'zstd']),
  paths: z.array(claim).max(maxBatchPaths),
  realisations: z.array(realisationClaim).max(maxBatchRealisations).default([]),
});

const manifestFormat: JsonFormat<z.infer<typeof document>> = {
  code: 'malformed-manifest',
  schema: document,
  maxBytes: maxManifestBytes,
};

export function formatManifest(manifest: Omit<Manifest, 'realisations'>): string {
  const paths = manifest.paths.map(claimOf);
  return JSON.stringify({ version: manifestVersion, encoding: manifest.encoding, paths });
}

/** Returns the text of a manifest that has realisations and no paths. */
export function formatRealisationManifest(realisations: readonly Realisation[]): string {
  return JSON.stringify({ version: manifestVersion, encoding: 'none', paths: [], realisations });
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
  const realisations = parsed.realisations.map((realisation, index) => {
    try {
      return canonicalRealisation(realisation, storeDir);
    } catch (cause) {
      const where = `realisations.${index} of the manifest`;
      throw new NicheError('malformed-manifest', `${where}: ${messageOf(cause)}`, { cause });
    }
  });
  if (paths.length > 0 === realisations.length > 0) {
    throw new NicheError(
      'malformed-manifest',
      `the manifest has ${paths.length} paths and ${realisations.length} realisations: expected either`,
    );
  }
  const seen = new Set<string>();
  const subjects = [...paths.map(({ path }) => path), ...realisations.map(realisationName)];
  const twice = subjects.find((subject) => seen.size === seen.add(subject).size);
  if (twice !== undefined) {
    throw new NicheError(
      'malformed-manifest',
      `the manifest lists ${twice} twice: expected each path once`,
    );
  }
  const total = paths.reduce((sum, { narSize }) => sum + narSize, 0);
  if (paths.length > 1 && total > maxBatchNarBytes) {
    throw new NicheError(
      'malformed-manifest',
      `the manifest's ${paths.length} NARs have ${total} bytes: expected at most ${maxBatchNarBytes} in a batch of more than one`,
    );
  }
  return { encoding: parsed.encoding, paths, realisations };
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
