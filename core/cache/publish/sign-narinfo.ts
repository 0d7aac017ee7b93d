import { mapConcurrent } from '../../util/concurrency.ts';
import { NicheError } from '../../errors.ts';
import { fingerprint } from '../../nix/fingerprint.ts';
import { parsePublicKey, verifyFingerprintAsync } from '../../nix/keys.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import type { Signer } from '../../signing/signer.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { auditedPath, auditedSigner, writeAuditRecords } from '../audit.ts';
import type { AuditRecord, AuditedSigner } from '../audit.ts';
import type { CacheConfig } from '../config.ts';
import type { Candidate } from './pending.ts';

/** A key that is a service's takes a request for each signature. */
const signaturesAtOnce = 32;

/** Signs what is to be published, and puts on record who staged it. */
export interface NarInfoSigner {
  /** @throws NicheError `unsignable` when no key takes the path's fingerprint */
  assertSignable(claim: PathInfo): void;
  /**
   * The narinfos of the candidates, signed. Their audit records are stored when this returns, in one
   * object however many they are: so no signature is ever visible without its record.
   *
   * @throws NicheError `wrong-key` when a signature does not verify, and what signers and storage throw
   */
  sign(candidates: readonly Candidate[]): Promise<NarInfo[]>;
}

export interface NarInfoSignerOptions {
  /** Where the audit is. */
  readonly bucket: Bucket;
  readonly config: Pick<CacheConfig, 'storeDir' | 'publicKeys'>;
  readonly signers: readonly Signer[];
  /** The release, for the audit. */
  readonly version: string;
  readonly now: () => Date;
}

export function createNarInfoSigner({
  bucket,
  config,
  signers,
  version,
  now,
}: NarInfoSignerOptions): NarInfoSigner {
  const { storeDir } = config;
  const publicKeys = config.publicKeys.map(parsePublicKey);

  async function signOne(candidate: Candidate): Promise<{ narInfo: NarInfo; record: AuditRecord }> {
    const { info, nar, unclaimed, upload, origin = null } = candidate;
    const text = fingerprint(info, storeDir);
    const usable = usableSigners(signers, text);
    const signatures: string[] = [];
    const audited: AuditedSigner[] = [];
    for (const signer of usable) {
      const { signature, requestId } = await signer.sign(text);
      if (!(await verifyFingerprintAsync(text, signature, publicKeys))) {
        throw new NicheError(
          'wrong-key',
          `the signature of the key ${signer.keyName} does not verify: expected one of the cache's public keys ${config.publicKeys.join(' ')}, got a signature for ${signer.publicKey}`,
        );
      }
      signatures.push(signature);
      audited.push(auditedSigner(signer, requestId));
    }
    const record: AuditRecord = {
      version: 1,
      at: now().toISOString(),
      ...auditedPath(info),
      unclaimed,
      signatures,
      signers: audited,
      upload,
      origin,
      publisher: version,
    };
    const narInfo = {
      ...info,
      ...nar,
      signatures: [...signatures, ...info.signatures],
      extra: [],
    };
    return { narInfo, record };
  }

  return {
    assertSignable(claim) {
      if (signers.some(({ maxBytes }) => maxBytes === undefined)) return;
      const text = fingerprint(claim, storeDir);
      if (usableSigners(signers, text).length > 0) return;
      throw new NicheError(
        'unsignable',
        `no key of this cache signs a fingerprint of ${Buffer.byteLength(text)} bytes, which ${claim.path} with its ${claim.references.length} references has`,
      );
    },
    async sign(candidates) {
      const signed = await mapConcurrent(candidates, signaturesAtOnce, signOne);
      await writeAuditRecords(
        bucket,
        signed.map(({ record }) => record),
      );
      return signed.map(({ narInfo }) => narInfo);
    },
  };
}

function usableSigners(signers: readonly Signer[], fingerprint: string): Signer[] {
  const bytes = Buffer.byteLength(fingerprint);
  return signers.filter(({ maxBytes = Infinity }) => bytes <= maxBytes);
}
