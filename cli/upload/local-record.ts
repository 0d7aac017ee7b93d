import path from 'node:path';

import { cacheIdentity, createKnownPaths } from '../../core/cache/local/known-paths.ts';
import type { KnownPaths } from '../../core/cache/local/known-paths.ts';
import { openLocalDatabase } from '../../core/cache/local/database.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import { createUploadJournal } from '../../core/cache/local/upload-journal.ts';
import type { UploadJournal } from '../../core/cache/local/upload-journal.ts';
import { homeOf, nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';
import { identifyProcess, isAlive } from '../../core/util/process-identity.ts';
import type { ProcessIdentity } from '../../core/util/process-identity.ts';

/** What this machine knows of one cache from earlier runs. */
export interface LocalRecord {
  readonly known: KnownPaths;
  readonly journal: UploadJournal;
  close(): void;
}

/** Opens the record in `$XDG_CACHE_HOME/niche/caches`, one SQLite file per cache. */
export async function openLocalRecord(cache: OpenCache, env: Environment): Promise<LocalRecord> {
  const cacheHome = nonEmpty(env['XDG_CACHE_HOME']) ?? path.join(homeOf(env), '.cache');
  const name = cacheIdentity(cache.public.url, cache.config);
  const database = await openLocalDatabase(path.join(cacheHome, 'niche/caches', `${name}.sqlite`));
  return {
    known: createKnownPaths(database),
    journal: createUploadJournal(database, {
      self: JSON.stringify(identifyProcess(process.pid)),
      hasEnded: (owner) => isAlive(JSON.parse(owner) as ProcessIdentity) === false,
    }),
    close() {
      database.close();
    },
  };
}
