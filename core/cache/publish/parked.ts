import { storeHash } from '../../nix/store-path.ts';
import type { Candidate, IngestedPath } from './paths.ts';
import type { PendingPaths } from './pending.ts';

/** The waiting state of a candidate: which reference it waits for, if any, and how that is stored. */
export interface Parked {
  /** The store hash of the reference that the candidate waits for; null while it is not parked. */
  readonly reference: string | null;
  /** Whether the marker of `reference` is stored. A wake-up deletes it. */
  readonly isMarked: boolean;
  /** Stores that the candidate waits for the store hash `next`. */
  moveTo(next: string): Promise<void>;
  /** Deletes the pending record and the marker. Does nothing for a candidate that is not parked. */
  forget(): Promise<void>;
}

/** Returns the state of a candidate that is not parked. */
export function createUnparked(
  pending: PendingPaths,
  { candidate, attachments }: IngestedPath,
  now: () => Date,
): Parked {
  const park = (reference: string): Promise<void> =>
    pending.park(candidate, attachments, reference, now().toISOString());
  return trackWait(pending, candidate, { reference: null, isMarked: false }, park);
}

/** Returns the state of a candidate whose pending record is stored. */
export function openParked(
  pending: PendingPaths,
  candidate: Candidate,
  stored: { readonly reference: string; readonly isMarked: boolean },
): Parked {
  return trackWait(pending, candidate, stored, null);
}

/** @param park stores the pending record and its first marker; null when the record is stored */
function trackWait(
  pending: PendingPaths,
  { info, upload }: Candidate,
  initial: Pick<Parked, 'reference' | 'isMarked'>,
  park: ((reference: string) => Promise<void>) | null,
): Parked {
  const hash = storeHash(info.path);
  let { reference, isMarked } = initial;
  return {
    get reference() {
      return reference;
    },
    get isMarked() {
      return isMarked;
    },
    async moveTo(next) {
      if (reference === null && park) await park(next);
      else await pending.markWaiting({ reference: next, storeHash: hash, upload });
      if (reference !== null && reference !== next) {
        await pending.unmarkWaiting([{ reference, storeHash: hash, upload }]);
      }
      reference = next;
      isMarked = true;
    },
    async forget() {
      if (reference === null) return;
      await pending.deleteRecord(hash, upload);
      await pending.unmarkWaiting([{ reference, storeHash: hash, upload }]);
    },
  };
}
