import { mapConcurrent } from '../../util/concurrency.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import type { Attachments } from './attachments.ts';
import type { Origin } from '../audit.ts';
import {
  parseWaitingKey,
  pendingKey,
  pendingListingKey,
  pendingLogKey,
  waitingForPrefix,
  waitingKey,
  waitingPrefix,
} from '../layout.ts';
import type { WaitingMarker } from '../layout.ts';
import type { StoredNar } from '../nar/store.ts';
import { readObject, readText, writeObject } from '../objects.ts';

/** A path whose NAR is checked and stored: everything that its narinfo needs but the signatures. */
export interface Candidate {
  /** With only those of the client's signatures that an upstream's key verifies. */
  readonly info: PathInfo;
  readonly nar: StoredNar;
  readonly unclaimed: { readonly count: number; readonly first: readonly string[] };
  readonly upload: string;
  /** Absent in records of a release that did not know it. */
  readonly origin?: Origin | null;
}

/** A candidate that waits for references. The publisher wrote it, so it is believed. */
export interface PendingRecord extends Candidate {
  readonly version: 1;
  /** When it began to wait, ISO 8601. */
  readonly since: string;
}

/** The records of what waits, and the markers by which a reference finds its dependents. */
export interface PendingPaths {
  /** Remembers the candidate and that it waits for `reference`; the record first, then the marker. */
  park(
    candidate: Candidate,
    attachments: Attachments,
    reference: string,
    since: string,
  ): Promise<void>;
  /** Notes that a remembered candidate waits for another reference. */
  markWaiting(waiting: WaitingMarker): Promise<void>;
  readRecord(storeHash: string, upload: string): Promise<PendingRecord | null>;
  readAttachments(storeHash: string, upload: string): Promise<Attachments>;
  /** Forgets the record once its path is final. */
  deleteRecord(storeHash: string, upload: string): Promise<void>;
  unmarkWaiting(waiting: WaitingMarker): Promise<void>;
  /** Every marker. */
  listWaiting(): AsyncIterable<WaitingMarker>;
  /** Who waits for one of these references, in one LIST as long as not very many wait for anything. */
  findWaiting(references: readonly string[]): Promise<WaitingMarker[]>;
}

/** As many as one LIST may bring: beyond, it is cheaper to ask for each reference. */
const maxMarkersListed = 1000;
const listsAtOnce = 16;

export function createPendingPaths(bucket: Bucket): PendingPaths {
  async function mark(waiting: WaitingMarker): Promise<void> {
    await writeObject(bucket, waitingKey(waiting), '');
  }

  async function* markers(prefix: string): AsyncIterable<WaitingMarker> {
    for await (const { key } of bucket.list(prefix)) {
      const waiting = parseWaitingKey(key);
      if (waiting) yield waiting;
    }
  }

  return {
    markWaiting: mark,
    async park(candidate, { listing, log }, reference, since) {
      const { upload } = candidate;
      const hash = storeHash(candidate.info.path);
      const record: PendingRecord = { version: 1, ...candidate, since };
      if (listing !== null) await writeObject(bucket, pendingListingKey(hash, upload), listing);
      if (log !== null) await writeObject(bucket, pendingLogKey(hash, upload), log);
      await writeObject(bucket, pendingKey(hash, upload), JSON.stringify(record));
      await mark({ reference, storeHash: hash, upload });
    },
    async readRecord(hash, upload) {
      const text = await readText(bucket, pendingKey(hash, upload));
      return text === null ? null : (JSON.parse(text) as PendingRecord);
    },
    async readAttachments(hash, upload) {
      return {
        listing: await readText(bucket, pendingListingKey(hash, upload), Infinity),
        log: await readObject(bucket, pendingLogKey(hash, upload), Infinity),
      };
    },
    async deleteRecord(hash, upload) {
      // The record first: without it, what is left beside it is only waste.
      await bucket.delete([pendingKey(hash, upload)]);
      await bucket.delete([pendingListingKey(hash, upload), pendingLogKey(hash, upload)]);
    },
    async unmarkWaiting(waiting) {
      await bucket.delete([waitingKey(waiting)]);
    },
    listWaiting: () => markers(waitingPrefix),
    async findWaiting(references) {
      if (references.length > 1) {
        const wanted = new Set(references);
        const found: WaitingMarker[] = [];
        let seen = 0;
        for await (const waiting of markers(waitingPrefix)) {
          if (wanted.has(waiting.reference)) found.push(waiting);
          seen += 1;
          if (seen === maxMarkersListed) break;
        }
        if (seen < maxMarkersListed) return found;
      }
      const found: WaitingMarker[] = [];
      await mapConcurrent(references, listsAtOnce, async (reference) => {
        for await (const waiting of markers(waitingForPrefix(reference))) found.push(waiting);
      });
      return found;
    },
  };
}
