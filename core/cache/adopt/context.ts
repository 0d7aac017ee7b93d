import { NicheError } from '../../errors.ts';
import { parsePublicKey } from '../../nix/keys.ts';
import type { PublicKey } from '../../nix/keys.ts';
import type { Signer } from '../../signing/signer.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import { openBlocklist } from '../blocklist.ts';
import type { Blocklist } from '../blocklist.ts';
import type { CacheConfig } from '../config.ts';
import type { CacheBuckets } from '../layout.ts';
import { createNarStore } from '../nar/store.ts';
import type { NarStore } from '../nar/store.ts';
import { createPresence, createRecentPaths } from '../presence.ts';
import type { Presence } from '../presence.ts';
import { createConflictChecker } from '../publish/conflicts.ts';
import type { ConflictChecker } from '../publish/conflicts.ts';
import { createNarInfoSigner } from '../publish/sign-narinfo.ts';
import type { NarInfoSigner } from '../publish/sign-narinfo.ts';
import type { Upstreams } from '../upstreams.ts';
import type { AdoptSelection } from './plan.ts';

export interface AdoptOptions extends Pick<CacheBuckets, 'public' | 'private'> {
  readonly config: CacheConfig;
  readonly upstreams: Upstreams;
  readonly signers: readonly Signer[];
  readonly selection: AdoptSelection;
  /** Public keys whose valid signature suffices for a path, `<key name>:<base64>`. */
  readonly trustedKeys: readonly string[];
  /** Whether paths are signed whose origin nothing shows. */
  readonly adoptsUnsigned: boolean;
  /** Another cache, which NARs are taken from that are missing or damaged here. @default none */
  readonly from?: ObjectReader | undefined;
  /** Whether everything is checked and nothing is written. */
  readonly isDryRun: boolean;
  /** The niche release, for the audit log. */
  readonly version: string;
  readonly onResult: (result: AdoptResult) => void;
  readonly onProgress?: (counts: AdoptCounts) => void;
  readonly signal?: AbortSignal | undefined;
  readonly now?: () => Date;
}

/** What happened to one narinfo. */
export interface AdoptResult {
  /** The store path, or the narinfo's key where that cannot be read. */
  readonly path: string;
  /**
   * `adopted`: it has the cache's signature now. `repaired`: it refers to an intact NAR again.
   * `changed`: somebody else changed it meanwhile, or one of its references.
   */
  readonly status: 'adopted' | 'repaired' | 'refused' | 'changed';
  /** Why it was refused. */
  readonly code?: string;
  readonly message?: string;
  /** What showed the origin of an adopted path: `content-address`, a public key, or `nothing`. */
  readonly by?: string;
}

/** Counts of narinfos. */
export interface AdoptCounts {
  /** Narinfos read so far. */
  readonly read: number;
  /** Narinfos that had a valid signature already. */
  readonly signed: number;
  readonly adopted: number;
  readonly repaired: number;
  readonly refused: number;
  readonly changed: number;
}

/** What every step of one run uses. */
export interface AdoptContext extends Required<Pick<AdoptOptions, 'now'>> {
  readonly options: AdoptOptions;
  readonly publicKeys: readonly PublicKey[];
  readonly trustedKeys: readonly PublicKey[];
  readonly blocklist: Blocklist;
  readonly presence: Presence;
  readonly conflicts: ConflictChecker;
  readonly nars: NarStore;
  readonly narInfoSigner: NarInfoSigner;
  /** Throws `aborted` once the run was stopped. */
  assertRunning(): void;
}

/** zstd frames compressed at once for each NAR. */
const framesAtOnce = 2;

/** @throws NicheError `usage` when the storage cannot replace objects conditionally; `storage-…` */
export async function openAdoptContext(options: AdoptOptions): Promise<AdoptContext> {
  const { public: bucket, config, upstreams, signal, now = () => new Date() } = options;
  if (!bucket.capabilities.conditionalReplace) {
    throw new NicheError(
      'usage',
      `cannot replace narinfos in ${bucket.url}: its storage has no conditional writes, so a concurrent change could be lost`,
      { hint: 'copy the cache to a storage with conditional writes' },
    );
  }
  const blocklist = await openBlocklist(options.private);
  const shared = { cache: bucket, upstreams, config, blocked: blocklist };
  return {
    options,
    now,
    blocklist,
    publicKeys: config.publicKeys.map(parsePublicKey),
    trustedKeys: options.trustedKeys.map(parsePublicKey),
    presence: createPresence({ ...shared, seen: createRecentPaths(now) }),
    conflicts: createConflictChecker(options),
    nars: createNarStore({ bucket, config, parallelism: framesAtOnce }),
    narInfoSigner: createNarInfoSigner({ ...options, bucket: options.private, now }),
    assertRunning() {
      if (signal?.aborted === true) throw new NicheError('aborted', 'the repair was stopped');
    },
  };
}
