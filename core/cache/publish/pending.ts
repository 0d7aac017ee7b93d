import { createHash } from 'node:crypto';

import * as z from 'zod';

import { NicheError } from '../../errors.ts';
import { maxDocumentBytes, maxListingBytes } from '../../limits.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
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
import { claim } from '../manifest.ts';
import { readObject, writeObject } from '../objects.ts';
import { parseStoredJson, readBoundedText } from '../stored-json.ts';
import type { JsonFormat } from '../stored-json.ts';
import type { Attachments } from './attachments.ts';
import type { Candidate } from './paths.ts';

/** A candidate that waits for references, as `pending/` stores it. */
export interface PendingRecord extends Candidate {
  readonly version: typeof recordVersion;
  /** When it began to wait, ISO 8601. */
  readonly since: string;
}

/** A record that was read. */
export interface ReadRecord extends PendingRecord {
  /** Whether this process wrote every byte of it, and so stored the NAR too. */
  readonly isOwn: boolean;
}

/** The pending records, and the markers by which a published reference finds its dependents. */
export interface PendingPaths {
  /** Stores the candidate and that it waits for `reference`: the record first, then the marker. */
  park(
    candidate: Candidate,
    attachments: Attachments,
    reference: string,
    since: string,
  ): Promise<void>;
  /** Stores that a parked candidate waits for a reference. */
  markWaiting(waiting: WaitingMarker): Promise<void>;
  /**
   * Reads the record of a parked candidate; null when there is none.
   *
   * @throws NicheError `failed` (a rejection) when the record is damaged, `newer-version` when a later
   *   release wrote it
   */
  readRecord(storeHash: string, upload: string): Promise<ReadRecord | null>;
  readAttachments(storeHash: string, upload: string): Promise<Attachments>;
  /** Deletes the record and the attachments of a path that no longer waits. */
  deleteRecord(storeHash: string, upload: string): Promise<void>;
  /** Deletes these markers. */
  unmarkWaiting(waiting: readonly WaitingMarker[]): Promise<void>;
  /** Lists every marker. */
  listWaiting(): AsyncIterable<WaitingMarker>;
  /** Lists the markers of these references, with one LIST unless very many paths wait. */
  findWaiting(references: readonly string[]): Promise<WaitingMarker[]>;
}

const recordVersion = 1;

/** The origin in a pending record, of a path or of a realisation. */
export const originField = z
  .object({
    via: z.enum(['event', 'sweep']),
    principal: z.string().optional(),
    sourceAddress: z.string().optional(),
    at: z.string().optional(),
  })
  .nullable();

const record = z.object({
  version: z.literal(recordVersion),
  info: claim.extend({
    path: z.string().refine(isStorePath, { error: 'expected a store path' }),
  }),
  nar: z.object({
    url: z.string(),
    compression: z.enum(['zstd', 'none']),
    fileHash: z.string(),
    fileSize: z.int().positive(),
  }),
  unclaimed: z.object({ count: z.int().nonnegative(), first: z.array(z.string()) }),
  upload: z.string(),
  origin: originField,
  since: z.iso.datetime(),
});

/** Damage is a rejection: no retry repairs it, so the client has to upload the path again. */
const recordFormat: JsonFormat<PendingRecord> = {
  code: 'failed',
  schema: record,
  newestVersion: recordVersion,
  maxBytes: maxDocumentBytes,
};

/** One LIST returns at most this many markers. Beyond, a LIST for each reference is cheaper. */
const maxMarkersListed = 1000;
const listsAtOnce = 16;

export function createPendingPaths(bucket: Bucket): PendingPaths {
  const own = createOwnRecords();

  async function markWaiting(waiting: WaitingMarker): Promise<void> {
    await writeObject(bucket, waitingKey(waiting), '');
  }

  async function* listMarkers(prefix: string): AsyncIterable<WaitingMarker> {
    for await (const { key } of bucket.list(prefix)) {
      const waiting = parseWaitingKey(key);
      if (waiting) yield waiting;
    }
  }

  /** Finds the markers of these references with one LIST; null when there are too many markers. */
  async function findInOneList(references: ReadonlySet<string>): Promise<WaitingMarker[] | null> {
    const found: WaitingMarker[] = [];
    let listed = 0;
    for await (const waiting of listMarkers(waitingPrefix)) {
      if (references.has(waiting.reference)) found.push(waiting);
      listed += 1;
      if (listed === maxMarkersListed) return null;
    }
    return found;
  }

  async function findByReference(references: readonly string[]): Promise<WaitingMarker[]> {
    const found: WaitingMarker[] = [];
    await mapConcurrent(references, listsAtOnce, async (reference) => {
      for await (const waiting of listMarkers(waitingForPrefix(reference))) found.push(waiting);
    });
    return found;
  }

  return {
    markWaiting,
    async park(candidate, { listing, log }, reference, since) {
      const { upload } = candidate;
      const hash = storeHash(candidate.info.path);
      const stored: PendingRecord = { version: recordVersion, ...candidate, since };
      if (listing !== null) await writeObject(bucket, pendingListingKey(hash, upload), listing);
      if (log !== null) await writeObject(bucket, pendingLogKey(hash, upload), log);
      const key = pendingKey(hash, upload);
      const text = JSON.stringify(stored);
      own.add(key, digestOf(text));
      await writeObject(bucket, key, text);
      await markWaiting({ reference, storeHash: hash, upload });
    },
    async readRecord(hash, upload) {
      const key = pendingKey(hash, upload);
      const text = await readBoundedText(bucket, key, recordFormat);
      if (text === null) return null;
      const found = parseStoredJson(text, key, recordFormat);
      if (pendingKey(storeHash(found.info.path), found.upload) !== key) {
        throw new NicheError(
          'failed',
          `${key} is not valid: it is the record of ${found.info.path} in the upload ${found.upload}`,
        );
      }
      return { ...found, isOwn: own.has(key, digestOf(text)) };
    },
    async readAttachments(hash, upload) {
      return {
        listing: await readObject(bucket, pendingListingKey(hash, upload), maxListingBytes),
        log: await readObject(bucket, pendingLogKey(hash, upload), Infinity),
      };
    },
    async deleteRecord(hash, upload) {
      // The record first: attachments without a record are leftovers that a sweep deletes.
      await bucket.delete([pendingKey(hash, upload)]);
      await bucket.delete([pendingListingKey(hash, upload), pendingLogKey(hash, upload)]);
    },
    async unmarkWaiting(waiting) {
      await bucket.delete(waiting.map(waitingKey));
    },
    listWaiting: () => listMarkers(waitingPrefix),
    async findWaiting(references) {
      const found = references.length > 1 ? await findInOneList(new Set(references)) : null;
      return found ?? findByReference(references);
    },
  };
}

function isStorePath(path: string): boolean {
  try {
    storeHash(path);
    return true;
  } catch {
    return false;
  }
}

/** The records that this process has written last, by key. */
interface OwnRecords {
  add(key: string, digest: string): void;
  has(key: string, digest: string): boolean;
}

/** Bounds the memory to about 20 MB. Other records are checked like those of other processes. */
const maxOwnRecords = 100_000;

function createOwnRecords(): OwnRecords {
  const digests = new Map<string, string>();
  return {
    add(key, digest) {
      if (digests.size >= maxOwnRecords) digests.clear();
      digests.set(key, digest);
    },
    has: (key, digest) => digests.get(key) === digest,
  };
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('base64');
}
