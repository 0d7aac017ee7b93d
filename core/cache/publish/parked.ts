import { storeHash } from '../../nix/store-path.ts';
import type { Attachments } from './attachments.ts';
import type { Candidate } from './paths.ts';
import type { PendingPaths } from './pending.ts';

/** The waiting state of a candidate: which reference it waits for, if any, and how that is stored. */
export interface Parked {
  /** The store hash of the reference that the candidate waits for; null while it is not parked. */
  readonly reference: string | null;
  /** Stores that the candidate waits for the store hash `next`. */
  moveTo(next: string): Promise<void>;
  /** Deletes the pending record and the marker. Does nothing for a candidate that is not parked. */
  forget(): Promise<void>;
}

export interface ParkedOptions {
  readonly pending: PendingPaths;
  readonly candidate: Candidate;
  readonly attachments: Attachments;
  /** The reference that the candidate waits for already; null for a candidate that is not parked. */
  readonly reference: string | null;
  readonly now: () => Date;
}

export function createParked(options: ParkedOptions): Parked {
  const { pending, candidate, attachments, now } = options;
  const { upload } = candidate;
  const hash = storeHash(candidate.info.path);
  let { reference } = options;

  return {
    get reference() {
      return reference;
    },
    async moveTo(next) {
      if (reference === null) {
        await pending.park(candidate, attachments, next, now().toISOString());
      } else {
        await pending.markWaiting({ reference: next, storeHash: hash, upload });
        await pending.unmarkWaiting({ reference, storeHash: hash, upload });
      }
      reference = next;
    },
    async forget() {
      if (reference === null) return;
      await pending.deleteRecord(hash, upload);
      await pending.unmarkWaiting({ reference, storeHash: hash, upload });
    },
  };
}
