import { parsePublicKey, verifyFingerprint } from '../../nix/keys.ts';
import {
  parseRealisationKey,
  realisationLayouts,
  storedFingerprint,
} from '../../nix/realisation.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import type { Signer } from '../../signing/signer.ts';
import { writeAuditRecords } from '../audit.ts';
import type { Blocklist } from '../blocklist.ts';
import type { CacheConfig } from '../config.ts';
import { replaceObject } from '../objects.ts';
import { createTextSigner } from '../sign-text.ts';
import { readRealisation } from '../read-realisation.ts';

export interface ResignRealisationOptions {
  readonly public: Bucket;
  readonly private: Bucket;
  readonly config: Pick<CacheConfig, 'publicKeys' | 'storeDir'>;
  readonly signers: readonly Signer[];
  readonly version: string;
  readonly now?: () => Date;
}

/** The result for one stored realisation. The output of a `blocked` one is to be withdrawn. */
export type ResignedRealisation =
  | { readonly kind: 'signed' | 'complete' | 'unverified' | 'changed' }
  | { readonly kind: 'blocked'; readonly outHash: string };

/** Lists the keys of all stored realisations. */
export async function* listRealisationKeys(bucket: Pick<Bucket, 'list'>): AsyncIterable<string> {
  for (const { prefix } of realisationLayouts) {
    for await (const { key } of bucket.list(prefix)) {
      if (parseRealisationKey(key, '') !== null) yield key;
    }
  }
}

/**
 * Adds the missing signatures to a stored realisation that verifies under a key of the cache. Writes
 * the audit record first.
 */
export async function resignRealisation(
  key: string,
  options: ResignRealisationOptions,
  blocklist: Pick<Blocklist, 'has'>,
): Promise<ResignedRealisation> {
  const { public: cache, config, signers, now = () => new Date() } = options;
  const { storeDir } = config;
  const publicKeys = config.publicKeys.map(parsePublicKey);
  const found = await readRealisation(cache, key, { storeDir, publicKeys });
  const parsed = parseRealisationKey(key, storeDir);
  if (found.kind === 'absent' || !parsed) return { kind: 'changed' };
  if (found.kind === 'unusable') return { kind: 'unverified' };
  const { outPath } = found.value;
  const outHash = storeHash(outPath);
  if (blocklist.has(outHash)) return { kind: 'blocked', outHash };
  const realisation = { ...parsed.realisation, outPath };
  const text = parsed.layout.fingerprint(realisation, storeDir);
  const isSignedBy = ({ publicKey }: Signer): boolean =>
    found.signatures.some((each) => verifyFingerprint(text, each, [parsePublicKey(publicKey)]));
  const missing = signers.filter((signer) => !isSignedBy(signer));
  if (missing.length === 0) return { kind: 'complete' };
  const signed = await createTextSigner(missing, config.publicKeys)(text);
  const { drvHash, drvPath, output } = realisation;
  const record = { version: 1, at: now().toISOString(), path: outPath, ...signed } as const;
  await writeAuditRecords(options.private, [
    {
      ...record,
      realisation: { drvHash, drvPath, output },
      upload: 'resign',
      origin: null,
      publisher: options.version,
    },
  ]);
  const all = [...found.value.signatures, ...signed.signatures];
  const body = parsed.layout.format(realisation, all, storeDir);
  const outcome = await replaceObject(cache, key, body, found.etag);
  return { kind: outcome === 'replaced' ? 'signed' : 'changed' };
}

/** Returns whether a stored realisation would not verify any more without the key `leaving`. */
export async function dependsOnKey(
  cache: Bucket,
  key: string,
  { storeDir, publicKeys }: Pick<CacheConfig, 'publicKeys' | 'storeDir'>,
  leaving: string,
): Promise<boolean> {
  const keys = publicKeys.map(parsePublicKey);
  const found = await readRealisation(cache, key, { storeDir, publicKeys: keys });
  // One that nobody can use does not verify now either.
  if (found.kind !== 'found') return false;
  const text = storedFingerprint(key, found.value, storeDir) ?? '';
  const remaining = publicKeys.filter((each) => each !== leaving).map(parsePublicKey);
  return !found.signatures.some((each) => verifyFingerprint(text, each, remaining));
}
