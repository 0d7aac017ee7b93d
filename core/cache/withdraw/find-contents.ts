import * as z from 'zod';

import { isNicheError } from '../../errors.ts';
import { maxDocumentBytes } from '../../limits.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { eachConcurrent } from '../../util/concurrency.ts';
import type { CacheConfig } from '../config.ts';
import { listMarkers } from '../blocklist.ts';
import { parseNarInfoKey, parsePendingKey, pendingPrefix } from '../layout.ts';
import { readNarInfoOrNull } from '../read-narinfo.ts';
import { readStoredJson } from '../stored-json.ts';
import type { JsonFormat } from '../stored-json.ts';
import { readRecord } from './records.ts';

/** A path with the contents that were searched. */
export interface FoundPath {
  readonly path: string;
  readonly deriver: string | null;
}

export interface PendingPath extends FoundPath {
  readonly upload: string;
}

/** Objects that are read at once. */
const readsAtOnce = 32;

/** The used part of a pending record. */
const pendingFormat: JsonFormat<{ info: FoundPath & { narHash: string } }> = {
  code: 'failed',
  schema: z.object({
    info: z.object({ path: z.string(), narHash: z.string(), deriver: z.string().nullable() }),
  }),
  maxBytes: maxDocumentBytes,
};

/** Finds the paths with these contents that wait for references. */
export async function findPending(bucket: Bucket, narHash: string): Promise<PendingPath[]> {
  const found: PendingPath[] = [];
  await eachConcurrent(bucket.list(pendingPrefix), readsAtOnce, async ({ key }) => {
    const id = parsePendingKey(key);
    if (!id) return;
    const record = await unlessDamaged(() => readStoredJson(bucket, key, pendingFormat));
    if (record?.info.narHash !== narHash) return;
    const { path, deriver } = record.info;
    found.push({ path, deriver, upload: id.upload });
  });
  return found;
}

/** What a search of all narinfos found. */
export interface FoundNarInfos {
  readonly found: readonly FoundPath[];
  /** The derivers of all other paths. Their build logs must stay. */
  readonly otherDerivers: ReadonlySet<string>;
}

/** Finds the published paths with these contents. Reads every narinfo of the cache. */
export async function findNarInfos(
  { public: bucket, config }: { readonly public: Bucket; readonly config: StoreDir },
  narHash: string,
  onRead: (narInfos: number) => void,
): Promise<FoundNarInfos> {
  const found: FoundPath[] = [];
  const otherDerivers = new Set<string>();
  let read = 0;
  await eachConcurrent(bucket.list(''), readsAtOnce, async ({ key }) => {
    const hash = parseNarInfoKey(key);
    if (hash === null) return;
    const info = await readNarInfoOrNull(bucket, hash, config.storeDir);
    onRead((read += 1));
    if (info?.narHash === narHash) found.push({ path: info.path, deriver: info.deriver });
    else if (info && info.deriver !== null) otherDerivers.add(info.deriver);
  });
  return { found, otherDerivers };
}

type StoreDir = Pick<CacheConfig, 'storeDir'>;

/** Finds the withdrawn paths with these contents, for example those of a purge that was stopped. */
export async function findWithdrawn(bucket: Bucket, narHash: string): Promise<FoundPath[]> {
  const found: FoundPath[] = [];
  await eachConcurrent(listMarkers(bucket), readsAtOnce, async ({ kind, object }) => {
    if (kind !== 'path') return;
    const record = await unlessDamaged(() => readRecord(bucket, object.key));
    if (record?.narHash !== narHash || record.path === undefined) return;
    found.push({ path: record.path, deriver: record.deriver ?? null });
  });
  return found;
}

/** Treats a damaged object as missing: it belongs to no path that can be published. */
async function unlessDamaged<T>(read: () => Promise<T | null>): Promise<T | null> {
  try {
    return await read();
  } catch (error) {
    if (isNicheError(error) && !error.code.startsWith('storage-')) return null;
    throw error;
  }
}
