import { isNicheError } from '../../errors.ts';
import { formatListing } from '../../nix/listing.ts';
import type { NarListing } from '../../nix/listing.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { baseNameOf, storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import type { CacheConfig } from '../config.ts';
import { listingKey, logKey } from '../layout.ts';
import type { NarStore } from '../nar/store.ts';
import { createBestEffort } from '../objects.ts';
import { readNarInfo } from '../presence.ts';

/** What of a path is not in its narinfo: its NAR listing and its build log. */
export interface Attachments {
  /** `.ls` text; null when the NAR cannot have one, or this cache has none. */
  readonly listing: string | null;
  readonly log: Uint8Array | null;
}

/** What a cache has beside its narinfos. */
export interface AttachmentStore {
  /** The attachments that a path with this listing and log is to have. */
  of(listing: NarListing | null, log: Uint8Array | null): Attachments;
  /** Those of a path that is published, as far as they are not published too. */
  lacking(claim: PathInfo, log: Uint8Array | null): Promise<Attachments>;
  /** Writes them beside a narinfo that is there. */
  write(claim: PathInfo, attachments: Attachments): Promise<void>;
}

export function createAttachmentStore(options: {
  readonly public: Bucket;
  readonly nars: NarStore;
  readonly config: Pick<CacheConfig, 'storeDir' | 'listings'>;
}): AttachmentStore {
  const { public: bucket, nars, config } = options;
  const { storeDir } = config;
  const hasListings = config.listings !== false;

  /** The listing of a path that is published and has none yet. */
  async function lackingListing(claim: PathInfo): Promise<NarListing | null> {
    const hash = storeHash(claim.path);
    if (!hasListings || (await bucket.head(listingKey(hash))) !== null) return null;
    const here = await readNarInfo(bucket, hash, storeDir);
    if (!here) return null;
    try {
      return (await nars.checkNar(here, here.url)).listing;
    } catch (error) {
      // A damaged NAR is for `niche verify` to report; the narinfo stands nevertheless.
      if (isNicheError(error, 'storage-integrity')) return null;
      throw error;
    }
  }

  function of(listing: NarListing | null, log: Uint8Array | null): Attachments {
    return { listing: hasListings && listing ? formatListing(listing) : null, log };
  }

  return {
    of,
    lacking: async (claim, log) => of(await lackingListing(claim), log),
    async write(claim, { listing, log }) {
      if (listing !== null) {
        await createBestEffort(bucket, listingKey(storeHash(claim.path)), listing);
      }
      if (log !== null && claim.deriver !== null) {
        await createBestEffort(bucket, logKey(baseNameOf(claim.deriver, storeDir)), log);
      }
    },
  };
}
