import { NicheError, isNicheError } from '../errors.ts';
import { fingerprint } from '../nix/fingerprint.ts';
import { formatListing } from '../nix/listing.ts';
import { parsePublicKey, verifyFingerprint } from '../nix/keys.ts';
import { formatNarInfo } from '../nix/narinfo.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { parseStorePath, storeBaseName, storeHash } from '../nix/store-path.ts';
import type { Signer } from '../signing/signer.ts';
import type { Bucket } from '../storage/bucket.ts';
import { auditedPath, auditedSigner, writeAudit } from './audit.ts';
import type { AuditedSigner, Origin } from './audit.ts';
import type { CacheConfig } from './config.ts';
import { blockedKey, listingKey, logKey, narInfoKey } from './layout.ts';
import type { Waiting } from './layout.ts';
import type { NarStore } from './nar-store.ts';
import { createObject } from './objects.ts';
import { attachmentsOf } from './pending.ts';
import type { Attachments, Candidate, PendingPaths, PendingRecord } from './pending.ts';
import { findNarInfo, isSame } from './presence.ts';
import type { Presence } from './presence.ts';
import { isFinal, unlessRejected } from './receipts.ts';
import type { Outcome } from './receipts.ts';
import type { Upstreams } from './upstreams.ts';

/** What publishing a path works on. */
export interface PathPublisherOptions {
  readonly public: Bucket;
  readonly private: Bucket;
  readonly config: CacheConfig;
  readonly signers: readonly Signer[];
  readonly upstreams: Upstreams;
  readonly nars: NarStore;
  readonly pending: PendingPaths;
  /** Tells whoever resumes paths that the reference of a waiting one is published. */
  readonly wake: (waiting: Waiting) => Promise<void>;
  /** The release, for the audit. */
  readonly version: string;
  /** The largest NAR that this publisher's time limit allows, in bytes. */
  readonly maxNarBytes: number;
  readonly now: () => Date;
}

/** What one run of the publisher has found out and need not ask again. */
export interface Run {
  readonly presence: Presence;
  /** Store hashes that an administrator has withdrawn. */
  readonly blocked: ReadonlySet<string>;
}

/** A staged path as its manifest claims it. */
export interface StagedPath {
  readonly claim: PathInfo;
  readonly upload: string;
  readonly origin: Origin | null;
  readonly openNar: () => AsyncIterable<Uint8Array>;
  readonly readLog: () => Promise<Uint8Array | null>;
}

/** What became of a path. */
export interface Concluded {
  readonly outcome: Outcome;
  /**
   * Forgets that the path waited, where it did and no longer does. To be called once the receipt is
   * written: until then, nothing but the pending record would bring one after a crash.
   */
  readonly unpark: () => Promise<void>;
}

/**
 * Takes one path from its claim to its narinfo. Every method may be run again, after a crash at any
 * point or at once with itself: what is done already is found done. They throw what storage,
 * upstreams and signers throw.
 */
export interface PathPublisher {
  publish(run: Run, staged: StagedPath): Promise<Concluded>;
  /** Goes on with a path that waited for the store hash `reference`. */
  resume(run: Run, record: PendingRecord, reference: string): Promise<Concluded>;
}

export function createPathPublisher(options: PathPublisherOptions): PathPublisher {
  const { config, signers, upstreams, nars, pending, wake, version, now } = options;
  const { storeDir } = config;
  const publicKeys = config.publicKeys.map(parsePublicKey);

  /** What can be said of a path without its NAR; null when it is to be published. */
  async function settle(run: Run, claim: PathInfo): Promise<'exists' | null> {
    const hash = storeHash(claim.path);
    if (run.blocked.has(hash)) throw blocked(claim);
    const here = await findNarInfo(options.public, hash, storeDir);
    if (here && !isSame(here, claim)) throw conflict('conflict', claim, here, 'this cache');
    if (here) return 'exists';
    const there = await upstreams.find(hash);
    if (there && !isSame(there, claim))
      throw conflict('upstream-conflict', claim, there, 'an upstream');
    return null;
  }

  /** Writes what may be missing beside a narinfo that is there, and wakes who waits for it. */
  async function complete(
    claim: PathInfo,
    readAttachments: () => Promise<Attachments>,
  ): Promise<void> {
    const hash = storeHash(claim.path);
    const { listing, log } = await readAttachments();
    if (listing !== null) await createObject(options.public, listingKey(hash), listing);
    if (log !== null && claim.deriver !== null) {
      const drvName = storeBaseName(parseStorePath(claim.deriver, storeDir));
      await createObject(options.public, logKey(drvName), log);
    }
    for await (const waiting of pending.waiting(hash)) await wake(waiting);
  }

  /** The attachments of a path that is published, as far as they are not published too. */
  async function lackingAttachments(claim: PathInfo, log: Uint8Array | null): Promise<Attachments> {
    const hash = storeHash(claim.path);
    const hasListing = (await options.public.head(listingKey(hash))) !== null;
    const here = hasListing ? null : await findNarInfo(options.public, hash, storeDir);
    if (!here) return { listing: null, log };
    try {
      const { listing } = await nars.read(here, here.url);
      return { listing: listing && formatListing(listing), log };
    } catch (error) {
      // A damaged NAR is for `niche verify` to report; the narinfo stands nevertheless.
      if (isNicheError(error, 'storage-integrity')) return { listing: null, log };
      throw error;
    }
  }

  async function sign(candidate: Candidate): Promise<NarInfo> {
    const { info, nar, unclaimed, upload, origin = null } = candidate;
    const text = fingerprint(info, storeDir);
    const usable = usableSigners(signers, info, storeDir);
    const signatures: string[] = [];
    const audited: AuditedSigner[] = [];
    for (const signer of usable) {
      const { signature, requestId } = await signer.sign(text);
      if (!verifyFingerprint(text, signature, publicKeys)) {
        throw new NicheError(
          'wrong-key',
          `the signature of the key ${signer.keyName} does not verify: expected one of the cache's public keys ${config.publicKeys.join(' ')}, got a signature for ${signer.publicKey}`,
        );
      }
      signatures.push(signature);
      audited.push(auditedSigner(signer, requestId));
    }
    await writeAudit(options.private, {
      version: 1,
      at: now().toISOString(),
      ...auditedPath(info),
      unclaimed,
      signatures,
      signers: audited,
      upload,
      origin,
      publisher: version,
    });
    return { ...info, ...nar, signatures: [...signatures, ...info.signatures], extra: [] };
  }

  /** Signs the candidate and creates its narinfo, unless another publisher did so first. */
  async function create(run: Run, candidate: Candidate): Promise<'published' | 'exists'> {
    const { info } = candidate;
    const hash = storeHash(info.path);
    // An administrator may have withdrawn the path while its NAR was read.
    if ((await options.private.head(blockedKey(hash))) !== null) throw blocked(info);
    const narInfo = formatNarInfo(await sign(candidate), storeDir);
    if ((await createObject(options.public, narInfoKey(hash), narInfo)) === 'created') {
      return 'published';
    }
    // Whoever won the race may have published something else.
    await settle(run, info);
    return 'exists';
  }

  /**
   * Publishes the candidate once its references are present, else parks it. A reference may be
   * published while the candidate is being parked, unseen by either side; so everything is asked
   * again after the marker is written, until the answer does not change.
   */
  async function finish(
    run: Run,
    candidate: Candidate,
    attachments: Attachments,
    parkedFor: string | null,
  ): Promise<Concluded> {
    const { info, upload } = candidate;
    const hash = storeHash(info.path);
    const references = info.references.filter((reference) => reference !== info.path);
    let reference = parkedFor;
    const warnings = warningsOf(candidate);

    async function wait(next: string): Promise<void> {
      if (reference === null) {
        await pending.park(candidate, attachments, next, now().toISOString());
      } else {
        await pending.mark({ reference: next, storeHash: hash, upload });
        await pending.unmark({ reference, storeHash: hash, upload });
      }
      reference = next;
    }

    async function unpark(): Promise<void> {
      if (reference === null) return;
      await pending.forget(hash, upload);
      await pending.unmark({ reference, storeHash: hash, upload });
    }

    async function untilPresent(): Promise<'exists' | 'absent' | Outcome> {
      // A resumed candidate has not been settled in this run; a fresh one just was.
      let settled = reference === null ? null : await settle(run, info);
      while (settled === null) {
        const missing = await run.presence.missing(references);
        const first = missing[0];
        if (first === undefined) return 'absent';
        const next = storeHash(first);
        if (next === reference) return { status: 'waiting', missing, ...warnings };
        await wait(next);
        settled = await settle(run, info);
      }
      return settled;
    }

    const outcome = await unlessRejected<Outcome>(async () => {
      const state = await untilPresent();
      if (typeof state === 'object') return state;
      const status = state === 'exists' ? state : await create(run, candidate);
      await complete(info, () => Promise.resolve(attachments));
      return { status, ...warnings };
    });
    return { outcome, unpark: isFinal(outcome.status) ? unpark : neverParked };
  }

  /** The candidate that a staged path makes; its outcome, where that is known already. */
  async function examine(run: Run, staged: StagedPath): Promise<Outcome | Examined> {
    const { claim, upload, origin, openNar, readLog } = staged;
    assertPublishable(claim, options);
    if ((await settle(run, claim)) === 'exists') {
      await complete(claim, async () => lackingAttachments(claim, await readLog()));
      return { status: 'exists' };
    }
    const { listing, unclaimed, ...nar } = await nars.store(claim, openNar);
    const info = { ...claim, signatures: upstreams.verified(claim) };
    const attachments = attachmentsOf(listing, await readLog());
    return { candidate: { info, nar, unclaimed, upload, origin }, attachments };
  }

  return {
    async publish(run, staged) {
      const examined = await unlessRejected(() => examine(run, staged));
      if ('status' in examined) return { outcome: examined, unpark: neverParked };
      return finish(run, examined.candidate, examined.attachments, null);
    },

    async resume(run, { info, nar, unclaimed, upload, origin = null }, reference) {
      const attachments = await pending.attachments(storeHash(info.path), upload);
      return finish(run, { info, nar, unclaimed, upload, origin }, attachments, reference);
    },
  };
}

interface Examined {
  readonly candidate: Candidate;
  readonly attachments: Attachments;
}

const neverParked = (): Promise<void> => Promise.resolve();

/** @throws NicheError `too-large`, `unsignable`: what is known before a byte is read */
function assertPublishable(
  claim: PathInfo,
  { config, signers, ...options }: PathPublisherOptions,
): void {
  if (claim.narSize > options.maxNarBytes) {
    throw new NicheError(
      'too-large',
      `the NAR of ${claim.path} is too large for the time that this publisher has: expected at most ${options.maxNarBytes} bytes, got ${claim.narSize}`,
    );
  }
  const { maxNarBytes } = config.limits;
  if (claim.narSize > maxNarBytes) {
    throw new NicheError(
      'too-large',
      `the NAR of ${claim.path} is too large for this cache: expected at most ${maxNarBytes} bytes, got ${claim.narSize}`,
    );
  }
  if (usableSigners(signers, claim, config.storeDir).length === 0) {
    throw new NicheError(
      'unsignable',
      `no key of this cache signs a fingerprint of ${Buffer.byteLength(fingerprint(claim, config.storeDir))} bytes, which ${claim.path} with its ${claim.references.length} references has`,
    );
  }
}

function usableSigners(signers: readonly Signer[], info: PathInfo, storeDir: string): Signer[] {
  const bytes = Buffer.byteLength(fingerprint(info, storeDir));
  return signers.filter(({ maxBytes = Infinity }) => bytes <= maxBytes);
}

function warningsOf({ unclaimed }: Candidate): Pick<Outcome, 'warnings'> {
  if (unclaimed.count === 0) return {};
  const more = unclaimed.count > unclaimed.first.length ? ', …' : '';
  return {
    warnings: [
      `the contents mention ${unclaimed.count} store paths that are not references: ${unclaimed.first.join(', ')}${more}`,
    ],
  };
}

function blocked(claim: PathInfo): NicheError {
  return new NicheError('blocked', `an administrator has withdrawn ${claim.path} from this cache`);
}

function conflict(
  code: 'conflict' | 'upstream-conflict',
  claim: PathInfo,
  found: PathInfo,
  where: string,
): NicheError {
  const [what, expected, got] =
    found.path !== claim.path
      ? ['another name', found.path, claim.path]
      : found.narHash !== claim.narHash || found.narSize !== claim.narSize
        ? [
            'other contents',
            `${found.narHash} (${found.narSize} bytes)`,
            `${claim.narHash} (${claim.narSize} bytes)`,
          ]
        : ['other references', `${found.references.length}`, `${claim.references.length}`];
  return new NicheError(
    code,
    `${where} has ${claim.path} with ${what}: expected ${expected}, got ${got}`,
  );
}
