import { mapConcurrent } from '../concurrency.ts';
import { isRejection } from '../errors.ts';
import { formatNarInfo } from '../nix/narinfo.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { storeHash } from '../nix/store-path.ts';
import type { Bucket } from '../storage/bucket.ts';
import { createAttachmentStore } from './attachments.ts';
import type { Attachments } from './attachments.ts';
import type { Origin } from './audit.ts';
import type { BlockedPaths } from './blocked.ts';
import { frameBytes } from './compression.ts';
import type { CacheConfig } from './config.ts';
import { contentTypeOf, narInfoKey } from './layout.ts';
import type { Waiting } from './layout.ts';
import type { CheckedNar, NarStore } from './nar-store.ts';
import type { Notary } from './notary.ts';
import { createObject } from './objects.ts';
import type { Candidate, PendingPaths, PendingRecord } from './pending.ts';
import { findNarInfo, isSame, isUnreadable } from './presence.ts';
import type { Presence } from './presence.ts';
import { isFinal, unlessRejected } from './receipts.ts';
import { assertSize, blocked, conflict, unreadable } from './refusals.ts';
import type { Outcome } from './receipts.ts';
import type { BatchUnderWay } from './under-way.ts';
import type { Upstreams } from './upstreams.ts';

/** What publishing paths works on. */
export interface PathPublisherOptions {
  readonly public: Bucket;
  readonly private: Bucket;
  readonly config: CacheConfig;
  readonly upstreams: Upstreams;
  readonly nars: NarStore;
  readonly notary: Notary;
  readonly pending: PendingPaths;
  /** Tells whoever resumes paths that the reference of a waiting one is published. */
  readonly wake: (waiting: Waiting) => Promise<void>;
  /** The largest NAR that this publisher's time limit allows, in bytes. */
  readonly maxNarBytes: number;
  readonly now: () => Date;
}

/** What one run of the publisher has found out and need not ask again. */
export interface Run {
  readonly presence: Presence;
  readonly blocked: BlockedPaths;
  /** Where this process publishes other batches at once. */
  readonly underWay?: BatchUnderWay;
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
 * Takes paths from their claims to their narinfos. Every method may be run again, after a crash at
 * any point or at once with itself: what is done already is found done. They throw what storage,
 * upstreams and signers throw.
 *
 * Paths that come together go through each step together, since what serves all of them then costs
 * one request: the audit record, and the looks for what is blocked and for who waits.
 */
export interface PathPublisher {
  /**
   * @param batch references before what refers to them: one that comes later is missing like any
   *   other
   * @returns what became of each, in their order
   */
  publish(run: Run, batch: readonly StagedPath[]): Promise<Concluded[]>;
  /** Goes on with a path that waited for the store hash `reference`. */
  resume(run: Run, record: PendingRecord, reference: string): Promise<Concluded>;
}

/** Paths worked on at once: what each does most is wait for storage. */
const pathsAtOnce = 64;

export function createPathPublisher(options: PathPublisherOptions): PathPublisher {
  const { config, upstreams, nars, notary, pending, wake, now } = options;
  const { storeDir } = config;
  const attachmentStore = createAttachmentStore(options);

  /** What the cache says of a path; null when it has none of it. */
  async function settleHere(run: Run, claim: PathInfo): Promise<'exists' | null> {
    const hash = storeHash(claim.path);
    if (run.blocked.has(hash)) throw blocked(claim);
    const here = await findNarInfo(options.public, hash, storeDir).catch((error: unknown) => {
      throw isUnreadable(error) ? unreadable(claim, error) : error;
    });
    if (here && !isSame(here, claim)) throw conflict('conflict', claim, here, 'this cache');
    if (!here) return null;
    run.presence.note(claim.path);
    return 'exists';
  }

  /** @throws NicheError `upstream-conflict`: nobody replaces what an upstream has */
  async function settleUpstream(claim: PathInfo): Promise<void> {
    const there = await upstreams.find(storeHash(claim.path));
    if (there && !isSame(there, claim))
      throw conflict('upstream-conflict', claim, there, 'an upstream');
  }

  /** What can be said of a path without its NAR; null when it is to be published. */
  async function settle(run: Run, claim: PathInfo): Promise<'exists' | null> {
    const settled = await settleHere(run, claim);
    if (settled === null) await settleUpstream(claim);
    return settled;
  }

  /**
   * Whether a path is examined before the cache is asked for it. A small one hardly ever is there, since
   * its client has just asked, and then one request says so: the NAR or the narinfo cannot be created.
   */
  function isSettledLater({ narSize, path }: PathInfo, run: Run): boolean {
    const { conditionalPut, conditionalComplete } = options.public.capabilities;
    const isSmall = narSize <= frameBytes && conditionalPut && conditionalComplete;
    return isSmall && !run.blocked.has(storeHash(path));
  }

  /** The NAR of a path of which the cache was not asked yet, and is only if that seems to be here. */
  async function storeThenSettle(
    run: Run,
    { claim, openNar }: StagedPath,
  ): Promise<CheckedNar | 'exists'> {
    await settleUpstream(claim);
    let stored: CheckedNar;
    try {
      stored = await nars.store(claim, openNar);
    } catch (error) {
      // What is here already decides before what is wrong with the NAR.
      const settled = isRejection(error) ? await settleHere(run, claim) : null;
      if (settled === null) throw error;
      return settled;
    }
    return (stored.isNew ? null : await settleHere(run, claim)) ?? stored;
  }

  /**
   * Signs the candidates and writes the audit.
   *
   * @returns their narinfos' text, by path
   */
  async function authorize(candidates: readonly Candidate[]): Promise<Map<string, string>> {
    if (candidates.length === 0) return new Map();
    const signed = await notary.sign(candidates);
    return new Map(signed.map((info) => [info.path, formatNarInfo(info, storeDir)]));
  }

  /** {@link authorize} of one that was not ready with its batch, unless it has been withdrawn meanwhile. */
  async function authorizeAlone(run: Run, candidate: Candidate): Promise<Map<string, string>> {
    await run.blocked.look();
    return authorize(run.blocked.has(storeHash(candidate.info.path)) ? [] : [candidate]);
  }

  /**
   * Creates narinfos where the storage can in one go, up to the first that another publisher has
   * created; the others are created one by one.
   *
   * @param authorized references before what refers to them
   * @returns the paths whose narinfo was created
   */
  async function createTogether(
    run: Run,
    authorized: ReadonlyMap<string, string>,
  ): Promise<ReadonlySet<string>> {
    if (!options.public.createInOrder || authorized.size === 0) return new Set();
    const paths = [...authorized.keys()];
    const objects = [...authorized].map(([path, text]) => {
      const key = narInfoKey(storeHash(path));
      return { key, body: Buffer.from(text), contentType: contentTypeOf(key) };
    });
    const outcomes = await options.public.createInOrder(objects);
    const created = paths.filter((_, index) => outcomes[index] === 'created');
    for (const path of created) run.presence.note(path);
    return new Set(created);
  }

  /** Creates the candidate's narinfo, unless another publisher did so first. */
  async function create(
    run: Run,
    candidate: Candidate,
    { created, authorized }: Authorized,
  ): Promise<'published' | 'exists'> {
    const { path } = candidate.info;
    if (created.has(path)) return 'published';
    const narInfo = authorized.get(path) ?? (await authorizeAlone(run, candidate)).get(path);
    if (narInfo === undefined) throw blocked(candidate.info);
    const key = narInfoKey(storeHash(path));
    if ((await createObject(options.public, key, narInfo)) === 'created') {
      run.presence.note(path);
      return 'published';
    }
    // Whoever won the race may have published something else.
    await settle(run, candidate.info);
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
    authorized: Authorized,
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
      const status = state === 'exists' ? state : await create(run, candidate, authorized);
      return { status, ...warnings };
    });
    return { outcome, unpark: isFinal(outcome.status) ? unpark : neverParked };
  }

  /** The candidate that a staged path makes; its outcome, where that is known already. */
  async function examine(run: Run, staged: StagedPath): Promise<Outcome | Examined> {
    const { claim, upload, origin, openNar, readLog } = staged;
    assertSize(claim, options.maxNarBytes, config.limits.maxNarBytes);
    notary.assertSignable(claim);
    const stored = isSettledLater(claim, run)
      ? await storeThenSettle(run, staged)
      : ((await settle(run, claim)) ?? (await nars.store(claim, openNar)));
    if (stored === 'exists') return { status: stored };
    const { listing, unclaimed, url, compression, fileHash, fileSize } = stored;
    const nar = { url, compression, fileHash, fileSize };
    const info = { ...claim, signatures: upstreams.verified(claim) };
    const attachments = attachmentStore.of(listing, await readLog());
    return { candidate: { info, nar, unclaimed, upload, origin }, attachments };
  }

  /**
   * Authorizes at once all those of a batch that nothing but the others of it may keep waiting. What was
   * withdrawn while NARs were read is not among them, nor what refers to it.
   */
  async function authorizeReady(
    run: Run,
    examined: readonly (Outcome | Examined)[],
  ): Promise<Map<string, string>> {
    const candidates = examined.flatMap((each) => ('candidate' in each ? [each.candidate] : []));
    if (candidates.length === 0) return new Map();
    await run.blocked.look();
    const inBatch = new Set(candidates.map(({ info }) => info.path));
    const elsewhere = new Set(candidates.flatMap(({ info }) => info.references));
    const missing = new Set(
      await run.presence.missing([...elsewhere].filter((path) => !inBatch.has(path))),
    );
    const ready = new Set<string>();
    const isReady = ({ info: { path, references } }: Candidate): boolean =>
      !run.blocked.has(storeHash(path)) &&
      references.every((reference) =>
        inBatch.has(reference)
          ? reference === path || ready.has(reference)
          : !missing.has(reference),
      );
    for (const candidate of candidates) if (isReady(candidate)) ready.add(candidate.info.path);
    return authorize(candidates.filter(({ info }) => ready.has(info.path)));
  }

  /** Creates narinfos, each after those of the batch that it refers to. */
  async function finishAll(
    run: Run,
    examined: readonly (Outcome | Examined)[],
    authorized: Authorized,
  ): Promise<Concluded[]> {
    const begun = new Map<string, Promise<Concluded>>();
    return mapConcurrent(examined, pathsAtOnce, async (each) => {
      if ('status' in each) return { outcome: each, unpark: neverParked };
      const { candidate, attachments } = each;
      const { path, references } = candidate.info;
      const before = references.flatMap((reference) => begun.get(reference) ?? []);
      const work = Promise.all(before).then(() =>
        finish(run, candidate, attachments, null, authorized),
      );
      begun.set(path, work);
      return work;
    });
  }

  /** Wakes who waits for these paths, which are published. */
  async function wakeFor(claims: readonly PathInfo[]): Promise<void> {
    if (claims.length === 0) return;
    const hashes = claims.map(({ path }) => storeHash(path));
    for (const waiting of await pending.waitingFor(hashes)) await wake(waiting);
  }

  return {
    async publish(run, batch) {
      const examined = await mapConcurrent(batch, pathsAtOnce, (staged) =>
        unlessRejected(() => examine(run, staged)),
      );
      await run.underWay?.untilDecided(batch.flatMap(({ claim }) => claim.references));
      const authorized = await authorizeReady(run, examined);
      const created = await createTogether(run, authorized);
      const concluded = await finishAll(run, examined, { authorized, created });
      run.underWay?.decide();
      const published = batch.filter((_, index) => isPublished(concluded[index]));
      await mapConcurrent([...batch.entries()], pathsAtOnce, async ([index, staged]) => {
        if (!isPublished(concluded[index])) return;
        const { claim, readLog } = staged;
        const found = examined[index];
        await attachmentStore.write(
          claim,
          found && 'candidate' in found
            ? found.attachments
            : await attachmentStore.lacking(claim, await readLog()),
        );
      });
      await wakeFor(published.map(({ claim }) => claim));
      return concluded;
    },

    async resume(run, { info, nar, unclaimed, upload, origin = null }, reference) {
      const attachments = await pending.attachments(storeHash(info.path), upload);
      const candidate = { info, nar, unclaimed, upload, origin };
      const concluded = await finish(run, candidate, attachments, reference, nothingAuthorized);
      if (isPublished(concluded)) {
        await attachmentStore.write(info, attachments);
        await wakeFor([info]);
      }
      return concluded;
    },
  };
}

interface Examined {
  readonly candidate: Candidate;
  readonly attachments: Attachments;
}

/** What a batch has got so far. */
interface Authorized {
  /** The text of each narinfo that is signed and audited, by path. */
  readonly authorized: ReadonlyMap<string, string>;
  /** The paths of those that are created already. */
  readonly created: ReadonlySet<string>;
}

const nothingAuthorized: Authorized = { authorized: new Map(), created: new Set() };

const neverParked = (): Promise<void> => Promise.resolve();

function isPublished(concluded: Concluded | undefined): boolean {
  const status = concluded?.outcome.status;
  return status === 'published' || status === 'exists';
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
