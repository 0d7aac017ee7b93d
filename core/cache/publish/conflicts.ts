import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import type { Blocklist } from '../blocklist.ts';
import { readNarInfo, isSamePath, isUnreadableNarInfo } from '../presence.ts';
import type { Presence } from '../presence.ts';
import { blocked, conflict, unreadable } from './refusals.ts';
import type { InFlightBatch } from './in-flight.ts';
import type { Upstreams } from '../upstreams.ts';

/** What one run of the publisher has found out and need not ask again. */
export interface PublishContext {
  readonly presence: Presence;
  readonly blocked: Blocklist;
  /** Where this process publishes other batches at once. */
  readonly inFlight?: InFlightBatch;
}

/** Says of a path what can be said without its NAR. */
export interface Settlement {
  /**
   * What the cache says; null when it has none of it.
   *
   * @throws NicheError `blocked`, `conflict`
   */
  here(run: PublishContext, claim: PathInfo): Promise<'exists' | null>;
  /** @throws NicheError `upstream-conflict`: nobody replaces what an upstream has */
  upstream(claim: PathInfo): Promise<void>;
  /** What both say; null when it is to be published. */
  settle(run: PublishContext, claim: PathInfo): Promise<'exists' | null>;
}

export function createSettlement(options: {
  readonly public: ObjectReader;
  readonly upstreams: Upstreams;
  readonly config: { readonly storeDir: string };
}): Settlement {
  const { public: cache, upstreams, config } = options;

  async function here(run: PublishContext, claim: PathInfo): Promise<'exists' | null> {
    const hash = storeHash(claim.path);
    if (run.blocked.has(hash)) throw blocked(claim);
    const found = await readNarInfo(cache, hash, config.storeDir).catch((error: unknown) => {
      throw isUnreadableNarInfo(error) ? unreadable(claim, error) : error;
    });
    if (!found) return null;
    if (!isSamePath(found, claim)) throw conflict('conflict', claim, found, 'this cache');
    run.presence.markPresent(claim.path);
    return 'exists';
  }

  async function upstream(claim: PathInfo): Promise<void> {
    const there = await upstreams.findNarInfo(storeHash(claim.path));
    if (there && !isSamePath(there, claim))
      throw conflict('upstream-conflict', claim, there, 'an upstream');
  }

  return {
    here,
    upstream,
    async settle(run, claim) {
      const settled = await here(run, claim);
      if (settled === null) await upstream(claim);
      return settled;
    },
  };
}
