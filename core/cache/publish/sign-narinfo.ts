import { NicheError } from '../../errors.ts';
import { fingerprint } from '../../nix/fingerprint.ts';
import { parsePublicKey } from '../../nix/keys.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import type { Signer } from '../../signing/signer.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import { auditedPath, writeAuditRecords } from '../audit.ts';
import type { AuditRecord } from '../audit.ts';
import type { CacheConfig } from '../config.ts';
import { signaturesBy } from '../signed-narinfo.ts';
import type { Upstreams } from '../upstreams.ts';
import type { Candidate } from './paths.ts';
import { createTextSigner, usableSigners } from '../sign-text.ts';

/** A KMS key takes one request for each signature. */
const signaturesAtOnce = 32;

/** Signs narinfos and records each signature in the audit log. */
export interface NarInfoSigner {
  /** @throws NicheError `unsignable` when the path's fingerprint is too long for every key */
  assertSignable(claim: PathInfo): void;
  /**
   * Returns the claimed signatures that the narinfo keeps: those that verify under the key of an
   * upstream or a key of `keepSignatures`.
   */
  keptSignatures(claim: PathInfo): string[];
  /**
   * Signs the candidates and returns their narinfos. Their audit records are stored before this
   * returns, all in one object, so no visible signature lacks its record.
   *
   * @throws NicheError `wrong-key` when a signature does not verify, and the errors of signers and
   *   storage
   */
  signNarInfos(candidates: readonly Candidate[]): Promise<NarInfo[]>;
}

export interface NarInfoSignerOptions {
  /** The bucket of the audit log. */
  readonly bucket: Bucket;
  readonly config: Pick<CacheConfig, 'storeDir' | 'publicKeys' | 'keepSignatures'>;
  readonly upstreams: Pick<Upstreams, 'verifiedSignatures'>;
  readonly signers: readonly Signer[];
  /** The niche release, for the audit log. */
  readonly version: string;
  readonly now: () => Date;
}

export function createNarInfoSigner(options: NarInfoSignerOptions): NarInfoSigner {
  const { bucket, config, upstreams, signers, version, now } = options;
  const { storeDir } = config;
  const signText = createTextSigner(signers, config.publicKeys);
  const keptKeys = otherKeys(config).map(parsePublicKey);

  async function signCandidate(
    candidate: Candidate,
  ): Promise<{ narInfo: NarInfo; record: AuditRecord }> {
    const { info, nar, unclaimed, upload, origin, provenance } = candidate;
    const text = fingerprint(info, storeDir);
    const signed = await signText(text);
    const record: AuditRecord = {
      version: 1,
      at: now().toISOString(),
      ...auditedPath(info),
      unclaimed,
      ...signed,
      upload,
      origin,
      ...(provenance ? { provenance } : {}),
      publisher: version,
    };
    const narInfo = {
      ...info,
      ...nar,
      signatures: [...signed.signatures, ...info.signatures],
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
        `no key of this cache can sign ${claim.path}: its fingerprint with ${claim.references.length} references has ${Buffer.byteLength(text)} bytes`,
      );
    },
    keptSignatures(claim) {
      const kept = [
        ...upstreams.verifiedSignatures(claim),
        ...signaturesBy(claim, storeDir, keptKeys),
      ];
      return [...new Set(kept)];
    },
    async signNarInfos(candidates) {
      const signed = await mapConcurrent(candidates, signaturesAtOnce, signCandidate);
      await writeAuditRecords(
        bucket,
        signed.map(({ record }) => record),
      );
      return signed.map(({ narInfo }) => narInfo);
    },
  };
}

/** A signature of the cache's own key from elsewhere would have no audit record, so none is kept. */
function otherKeys({
  publicKeys,
  keepSignatures = [],
}: Pick<CacheConfig, 'publicKeys' | 'keepSignatures'>): string[] {
  return keepSignatures.filter((key) => !publicKeys.includes(key));
}
