import { isNicheError } from '../../errors.ts';
import { findDebugFiles, formatDebugLink } from '../../nix/debug-info.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { baseNameOf, storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import type { CacheConfig } from '../config.ts';
import { debugKey, listingKey, logKey } from '../layout.ts';
import type { NarStore } from '../nar/store.ts';
import { createBestEffort } from '../objects.ts';
import { readNarInfo, readNarInfoOrNull } from '../read-narinfo.ts';
import type { PathReport } from './report.ts';

/** The objects that a path has besides its narinfo and its NAR. */
export interface Attachments {
  /** The `.ls` object; null when the NAR cannot have one or the cache has none. */
  readonly listing: Uint8Array | null;
  /** The build log. */
  readonly log: Uint8Array | null;
}

/** A path that is published, with what its client claimed. */
interface ReportedPath extends PathReport {
  readonly info: PathInfo;
}

/** Reads and writes the attachments of published paths. */
export interface AttachmentStore {
  /** Returns the attachments that this cache publishes for a path with this listing and log. */
  formatAttachments(listing: Uint8Array | null, log: Uint8Array | null): Attachments;
  /** Returns the attachments of a published path, without a listing that is published already. */
  findMissing(claim: PathInfo, log: Uint8Array | null): Promise<Attachments>;
  /**
   * Writes the attachments of a path whose narinfo exists. Writes the log only if the narinfo has the
   * claimed deriver: else any claim of a published path could name a derivation of its choice.
   */
  writeAttachments(finished: ReportedPath, attachments: Attachments): Promise<void>;
}

const linksAtOnce = 16;

export function createAttachmentStore(options: {
  readonly public: Bucket;
  readonly nars: NarStore;
  readonly config: Pick<CacheConfig, 'storeDir' | 'listings'>;
}): AttachmentStore {
  const { public: bucket, nars, config } = options;
  const { storeDir } = config;
  const hasListings = config.listings !== false;

  /** Returns the listing of a published path; null when it is published already. */
  async function findMissingListing(claim: PathInfo): Promise<Uint8Array | null> {
    const hash = storeHash(claim.path);
    if (!hasListings || (await bucket.head(listingKey(hash))) !== null) return null;
    const narInfo = await readNarInfo(bucket, hash, storeDir);
    if (!narInfo) return null;
    try {
      return (await nars.checkNar(narInfo, narInfo.url)).listing;
    } catch (error) {
      // The path stays published without a listing; `niche verify` reports the damaged NAR.
      if (isNicheError(error, 'storage-integrity')) return null;
      throw error;
    }
  }

  /** Returns whether the narinfo has the claimed deriver. That of a newly published path always has. */
  async function hasPublishedDeriver({ info, outcome }: ReportedPath): Promise<boolean> {
    if (outcome.status === 'published') return true;
    const narInfo = await readNarInfoOrNull(bucket, storeHash(info.path), storeDir);
    return narInfo?.deriver === info.deriver;
  }

  /** Links the debug files of a published path. They come before the listing, which lists them. */
  async function writeDebugLinks(path: string, listing: Uint8Array): Promise<void> {
    const files = findDebugFiles(listing);
    if (files.length === 0) return;
    const narInfo = await readNarInfoOrNull(bucket, storeHash(path), storeDir);
    if (!narInfo) return;
    await mapConcurrent(files, linksAtOnce, (file) =>
      createBestEffort(bucket, debugKey(file.buildId), formatDebugLink(narInfo.url, file)),
    );
  }

  function formatAttachments(listing: Uint8Array | null, log: Uint8Array | null): Attachments {
    return { listing: hasListings ? listing : null, log };
  }

  return {
    formatAttachments,
    findMissing: async (claim, log) => formatAttachments(await findMissingListing(claim), log),
    async writeAttachments(finished, { listing, log }) {
      const { path, deriver } = finished.info;
      if (listing !== null) {
        await writeDebugLinks(path, listing);
        await createBestEffort(bucket, listingKey(storeHash(path)), listing);
      }
      if (log !== null && deriver !== null && (await hasPublishedDeriver(finished))) {
        await createBestEffort(bucket, logKey(baseNameOf(deriver, storeDir)), log);
      }
    },
  };
}
