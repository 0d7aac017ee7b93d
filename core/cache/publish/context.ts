import type { Bucket } from '../../storage/bucket.ts';
import { openBlocklist } from '../blocklist.ts';
import type { Blocklist } from '../blocklist.ts';
import type { CacheConfig } from '../config.ts';
import { createPresence } from '../presence.ts';
import type { Presence, RecentPaths } from '../presence.ts';
import type { Upstreams } from '../upstreams.ts';
import type { InFlightBatch } from './in-flight.ts';

/** State that the paths of a batch share, so that nothing is requested once for each path. */
export interface PublishContext {
  readonly presence: Presence;
  readonly blocked: Blocklist;
  /** This batch among the batches in flight in this process. Absent for a resumed path. */
  readonly inFlight?: InFlightBatch;
}

export interface PublishContextOptions {
  readonly public: Bucket;
  readonly private: Bucket;
  readonly upstreams: Upstreams;
  readonly config: Pick<CacheConfig, 'storeDir' | 'publicKeys'>;
  /** Paths found by this publisher's earlier batches. */
  readonly seen: RecentPaths;
}

/** Reads the blocked paths and creates the context of a batch or of a resumed path. */
export async function openPublishContext(options: PublishContextOptions): Promise<PublishContext> {
  const { upstreams, seen, config } = options;
  const blocked = await openBlocklist(options.private);
  const presence = createPresence({
    cache: options.public,
    upstreams,
    config,
    blocked,
    seen,
  });
  return { presence, blocked };
}
