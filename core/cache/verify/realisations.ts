import { isNicheError } from '../../errors.ts';
import { parsePublicKey } from '../../nix/keys.ts';
import type { PublicKey } from '../../nix/keys.ts';
import { isRealisationKey, realisationLayouts } from '../../nix/realisation.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket, ObjectReader } from '../../storage/bucket.ts';
import { eachConcurrent } from '../../util/concurrency.ts';
import type { Blocked } from '../blocklist.ts';
import { readRealisation } from '../read-realisation.ts';
import type { AuditTrail } from './audit.ts';
import type { Finding } from './finding.ts';
import type { ReferenceLocator } from './references.ts';

export interface VerifyRealisationsOptions {
  readonly reader: ObjectReader;
  readonly storeDir: string;
  /** The cache's public keys, each `<key name>:<base64>`. */
  readonly publicKeys: readonly string[];
  readonly references: ReferenceLocator;
  readonly blocked: Pick<Blocked, 'has'>;
  readonly trail: Pick<AuditTrail, 'expectRecord'>;
  readonly onFinding: (finding: Finding) => void;
}

const realisationsAtOnce = 16;

/**
 * Verifies every realisation that the bucket lists: it is well-formed, a key of the cache signed it, and
 * readers can get its output, which is not blocked.
 *
 * @returns the number of stored realisations
 */
export async function verifyRealisations(
  bucket: Pick<Bucket, 'list'>,
  options: VerifyRealisationsOptions,
): Promise<number> {
  const publicKeys = options.publicKeys.map(parsePublicKey);
  let count = 0;
  await eachConcurrent(listRealisations(bucket), realisationsAtOnce, async (key) => {
    count += 1;
    try {
      await verifyOne(key, options, publicKeys);
    } catch (error) {
      if (!isNicheError(error, 'storage-denied', 'storage-unavailable', 'upstream-unavailable')) {
        throw error;
      }
      const { code, message } = error;
      options.onFinding({ kind: 'unchecked', subject: key, code, message });
    }
  });
  return count;
}

async function verifyOne(
  key: string,
  { reader, storeDir, references, blocked, trail, onFinding }: VerifyRealisationsOptions,
  publicKeys: readonly PublicKey[],
): Promise<void> {
  const report = (code: Finding['code'], message: string): void => {
    onFinding({ kind: 'wrong', subject: key, code, message });
  };
  const found = await readRealisation(reader, key, { storeDir, publicKeys });
  // It was withdrawn since it was listed.
  if (found.kind === 'absent') return;
  if (found.kind === 'unusable') {
    report('unsigned', `readers do not use it: ${found.why}`);
    return;
  }
  const { outPath } = found.value;
  for (const signature of found.signatures) trail.expectRecord(outPath, signature);
  if (blocked.has(storeHash(outPath))) {
    report('blocked-but-visible', `its output ${outPath} is blocked, but it is still visible`);
    return;
  }
  const location = await references.locateReference(outPath);
  if (location.at !== null) return;
  report('missing-reference', `readers cannot find its output ${outPath}: ${location.why}`);
}

async function* listRealisations(bucket: Pick<Bucket, 'list'>): AsyncIterable<string> {
  for (const { prefix } of realisationLayouts) {
    for await (const { key } of bucket.list(prefix)) if (isRealisationKey(key)) yield key;
  }
}
