import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';

import { createLimit, mapConcurrent } from '../concurrency.ts';
import { NicheError, isNicheError, toError } from '../errors.ts';
import { maxBatchNarBytes, maxBatchPaths, maxLogBytes, maxManifestBytes } from '../limits.ts';
import { formatHash } from '../nix/hash.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { baseNameOf } from '../nix/store-path.ts';
import type { Bucket, Upload } from '../storage/bucket.ts';
import { manifestKey, stagedLogKey, stagedNarsKey } from './layout.ts';
import type { BatchId } from './layout.ts';
import type { UploadJournal } from './upload-journal.ts';
import { formatManifest } from './manifest.ts';
import { createObject, writeObject } from './objects.ts';

/** A store path that this machine has, to be staged. */
export interface LocalPath {
  readonly info: PathInfo;
  /** Its NAR; throws `not-found` when the path has been collected. */
  readonly openNar: () => AsyncIterable<Uint8Array>;
  /** Its build log, null when there is none. */
  readonly readLog?: () => Promise<Uint8Array | null>;
}

/** One client session: stages paths in batches as they come. */
export interface Stager {
  readonly upload: string;
  /** Takes a path; returns at once. References should come before what refers to them. */
  add(path: LocalPath): void;
  /**
   * Stages what still waits for company and waits for everything that was added.
   *
   * @throws the first failure of storage
   */
  finish(): Promise<void>;
}

export interface StagerOptions {
  readonly bucket: Bucket;
  readonly upload: string;
  readonly storeDir: string;
  /** How long a small path waits for company, in milliseconds. @default 1,000 */
  readonly lingerMs?: number;
  /** Batches that are being staged at once. @default 4 */
  readonly batchesAtOnce?: number;
  readonly signal?: AbortSignal | undefined;
  /** What a run that was killed has left of large NARs is gone on with. */
  readonly journal?: UploadJournal | undefined;
  /** Hears of each batch once its manifest is stored. */
  readonly onStaged: (id: BatchId, paths: readonly PathInfo[]) => void;
  /** Hears of each path that could not be staged; the others go on. */
  readonly onFailed: (info: PathInfo, error: unknown) => void;
}

/** What a manifest needs around its entries, in bytes. */
const manifestOverheadBytes = 64;
/** Of all batches: to read one a process of Nix's is run, and to send it takes a round trip. */
const logsAtOnce = 8;

interface Batch {
  readonly id: BatchId;
  readonly paths: readonly LocalPath[];
  /** What its manifest waits for. */
  readonly after: readonly Promise<unknown>[];
  /** Called once it has a manifest, or will have none. */
  readonly ended: () => void;
}

export function createStager(options: StagerOptions): Stager {
  const { bucket, upload, storeDir, journal, lingerMs = 1000, batchesAtOnce = 4 } = options;
  const queue: Batch[] = [];
  const stagedLogs = new Set<string>();
  /** The ends of small batches that are not through yet, by the paths that these hold. */
  const ends = new Map<string, Promise<unknown>>();
  const packInTurn = createLimit(1);
  const stageLogInTurn = createLimit(logsAtOnce);
  let company: LocalPath[] = [];
  let companyNarBytes = 0;
  let companyManifestBytes = 0;
  let linger: NodeJS.Timeout | undefined;
  let batches = 0;
  let running = 0;
  let failure: Error | undefined;
  let settled = Promise.withResolvers<undefined>();

  function add(path: LocalPath): void {
    const { narSize } = path.info;
    const manifestBytes = Buffer.byteLength(JSON.stringify(path.info)) + 1;
    if (manifestBytes + manifestOverheadBytes > maxManifestBytes) {
      options.onFailed(
        path.info,
        new NicheError(
          'too-large',
          `${path.info.path} has too many references: its manifest would have ${manifestBytes} bytes, expected at most ${maxManifestBytes}`,
        ),
      );
      return;
    }
    if (narSize > maxBatchNarBytes) {
      submit([path]);
      return;
    }
    const isFull =
      company.length >= maxBatchPaths ||
      companyNarBytes + narSize > maxBatchNarBytes ||
      companyManifestBytes + manifestBytes + manifestOverheadBytes > maxManifestBytes;
    if (isFull) flush();
    company.push(path);
    companyNarBytes += narSize;
    companyManifestBytes += manifestBytes;
    linger ??= setTimeout(flush, lingerMs);
  }

  function flush(): void {
    clearTimeout(linger);
    linger = undefined;
    if (company.length === 0) return;
    submit(company);
    company = [];
    companyNarBytes = 0;
    companyManifestBytes = 0;
  }

  function submit(paths: readonly LocalPath[]): void {
    const references = paths.flatMap(({ info }) => info.references);
    const after = [...new Set(references.flatMap((path) => ends.get(path) ?? []))];
    const end = Promise.withResolvers<undefined>();
    // A large NAR may take longer than all the others: nothing waits for it.
    if (!isLarge(paths)) for (const { info } of paths) ends.set(info.path, end.promise);
    const ended = (): void => {
      end.resolve(undefined);
      for (const { info } of paths) if (ends.get(info.path) === end.promise) ends.delete(info.path);
    };
    queue.push({ id: { upload, batch: batches }, paths, after, ended });
    batches += 1;
    pump();
  }

  function pump(): void {
    while (running < batchesAtOnce) {
      const batch = queue.shift();
      if (!batch) break;
      running += 1;
      void stage(batch)
        .catch((error: unknown) => {
          failure ??= toError(error);
          for (const { info } of batch.paths) options.onFailed(info, error);
        })
        .finally(() => {
          batch.ended();
          running -= 1;
          pump();
        });
    }
    if (running === 0 && queue.length === 0) settled.resolve(undefined);
  }

  async function stage({ id: next, paths, after }: Batch): Promise<void> {
    options.signal?.throwIfAborted();
    const [only] = paths;
    const large = only && isLarge(paths) ? only : null;
    const { id, staged } = large ? await stageLarge(next, large) : await stageSmall(next, paths);
    if (staged.length === 0) return;
    if (large) await stageLogs(id.upload, staged);
    const infos = staged.map(({ info }) => info);
    journal?.noteStaged(id, infos, false);
    const manifest = formatManifest({ encoding: 'none', paths: infos });
    // A publisher that began with this batch would find its references missing, and would have to put
    // aside and take up again each path of it: that is several requests a path, and this is none.
    await Promise.all(after);
    const writeManifest = writeObject(bucket, manifestKey(id), manifest, { ifAbsent: true });
    await writeManifest.catch(takeAwayIfFull(id, staged));
    journal?.noteStaged(id, infos, true);
    if (large) journal?.forgetUnfinished(large.info);
    options.onStaged(id, infos);
  }

  async function stageSmall(id: BatchId, paths: readonly LocalPath[]): Promise<Staged> {
    // There is one thread to pack with: in turn, one batch is on its way while the next is packed.
    const { staged, body } = await packInTurn(() => packSmall(paths));
    if (staged.length === 0) return { id, staged };
    const writeNars = (): Promise<unknown> =>
      writeObject(bucket, stagedNarsKey(id, 'none'), body, {
        ifAbsent: true,
        sha256: createHash('sha256').update(body).digest(),
        signal: options.signal,
      });
    const writes = [writeNars, () => stageLogs(id.upload, staged)];
    await mapConcurrent(writes, writes.length, (write) => write()).catch(
      takeAwayIfFull(id, staged),
    );
    return { id, staged };
  }

  /**
   * Takes away what a batch without a manifest has staged, and throws the error again: nobody would come for
   * it for days, and it takes what room there is. Any other failure may be that of the answer alone.
   */
  function takeAwayIfFull(
    id: BatchId,
    paths: readonly LocalPath[],
  ): (error: unknown) => Promise<never> {
    return async (error) => {
      if (isNicheError(error, 'storage-full')) {
        const logs = paths.flatMap(({ info }) => logKeyOf(id.upload, info) ?? []);
        await bucket.delete([stagedNarsKey(id, 'none'), ...logs]).catch(() => undefined);
      }
      throw error;
    };
  }

  async function packSmall(
    paths: readonly LocalPath[],
  ): Promise<{ readonly staged: LocalPath[]; readonly body: Buffer }> {
    const staged: LocalPath[] = [];
    const nars: Uint8Array[] = [];
    for (const path of paths) {
      // Packing takes no turn of the event loop by itself; what is packed already is to be sent meanwhile.
      await setImmediate();
      const chunks: Uint8Array[] = [];
      const isWhole = await packed(path, async (nar) => {
        for await (const chunk of nar) chunks.push(chunk);
      });
      if (!isWhole) continue;
      staged.push(path);
      nars.push(...chunks);
    }
    return { staged, body: Buffer.concat(nars) };
  }

  /** @returns the batch that it became: an earlier one, where that was gone on with */
  async function stageLarge(next: BatchId, path: LocalPath): Promise<Staged> {
    const { id, sink, storedBytes } = await openSink(next, path.info);
    const progress = { isNoted: false };
    const note = (): void => {
      if (progress.isNoted || sink.token === undefined) return;
      journal?.noteUnfinished(path.info, { id, token: sink.token });
      progress.isNoted = true;
    };
    const giveUp = async (): Promise<void> => {
      journal?.forgetUnfinished(path.info);
      await sink.abort();
    };
    try {
      const isWhole = await packed(path, async (nar) => {
        for await (const chunk of without(nar, storedBytes)) {
          await sink.write(chunk);
          note();
        }
      });
      if (!isWhole) {
        await giveUp();
        return { id, staged: [] };
      }
      await sink.commit({ ifAbsent: true });
      return { id, staged: [path] };
    } catch (error) {
      // What the next run can go on with is left as it is; a sweep takes it away in time.
      const canGoOn =
        journal && progress.isNoted && isNicheError(error, 'aborted', 'storage-unavailable');
      if (!canGoOn) await giveUp();
      throw error;
    }
  }

  async function openSink(next: BatchId, info: PathInfo): Promise<OpenSink> {
    const left = bucket.resumeUpload ? (journal?.claim(info) ?? null) : null;
    if (left) {
      const key = stagedNarsKey(left.id, 'none');
      const resumed = await bucket.resumeUpload?.(key, left.token, { signal: options.signal });
      if (resumed) {
        return { id: left.id, sink: resumed.upload, storedBytes: resumed.storedBytes };
      }
      journal?.forgetUnfinished(info);
    }
    const key = stagedNarsKey(next, 'none');
    const sink = await bucket.upload(key, { size: info.narSize, signal: options.signal });
    return { id: next, sink, storedBytes: 0 };
  }

  /** Feeds the path's NAR to `take`; false, once reported, when it is not what its info says. */
  async function packed(
    path: LocalPath,
    take: (nar: AsyncIterable<Uint8Array>) => Promise<void>,
  ): Promise<boolean> {
    try {
      await take(verified(path));
      return true;
    } catch (error) {
      if (isNicheError(error) && !error.code.startsWith('storage-') && error.code !== 'aborted') {
        options.onFailed(path.info, error);
        return false;
      }
      throw error;
    }
  }

  async function stageLogs(uploadId: string, paths: readonly LocalPath[]): Promise<void> {
    await mapConcurrent(paths, logsAtOnce, (path) =>
      stageLogInTurn(() => stageLog(uploadId, path)),
    );
  }

  function logKeyOf(uploadId: string, { deriver }: PathInfo): string | null {
    return deriver && stagedLogKey(uploadId, baseNameOf(deriver, storeDir));
  }

  async function stageLog(uploadId: string, { info, readLog }: LocalPath): Promise<void> {
    const key = logKeyOf(uploadId, info);
    if (!readLog || key === null || stagedLogs.has(key)) return;
    stagedLogs.add(key);
    const log = await readLog();
    if (log && log.length > 0 && log.length <= maxLogBytes) await createObject(bucket, key, log);
  }

  return {
    upload,
    add,
    async finish() {
      flush();
      settled = Promise.withResolvers<undefined>();
      pump();
      await settled.promise;
      if (failure) throw failure;
    },
  };
}

/** The batch that was made of some paths, and those of them whose NARs are in it. */
interface Staged {
  readonly id: BatchId;
  readonly staged: readonly LocalPath[];
}

/** A NAR that does not share a batch. */
function isLarge(paths: readonly LocalPath[]): boolean {
  return paths.some(({ info }) => info.narSize > maxBatchNarBytes);
}

interface OpenSink {
  readonly id: BatchId;
  readonly sink: Upload;
  /** How many of the NAR's first bytes an earlier run has stored. */
  readonly storedBytes: number;
}

/** What comes after the first `skip` bytes; those are read all the same. */
async function* without(
  source: AsyncIterable<Uint8Array>,
  skip: number,
): AsyncIterable<Uint8Array> {
  let left = skip;
  for await (const chunk of source) {
    const rest = chunk.subarray(left);
    left = Math.max(0, left - chunk.length);
    if (rest.length > 0) yield rest;
  }
}

/** The path's NAR, as long as it is the one that Nix registered. */
async function* verified({ info, openNar }: LocalPath): AsyncIterable<Uint8Array> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of openNar()) {
    hash.update(chunk);
    size += chunk.length;
    yield chunk;
  }
  const narHash = formatHash({ algorithm: 'sha256', digest: hash.digest() }, 'base32');
  if (narHash !== info.narHash || size !== info.narSize) {
    throw new NicheError(
      'nar-hash-mismatch',
      `${info.path} is not what Nix built: expected ${info.narHash} (${info.narSize} bytes), got ${narHash} (${size} bytes)`,
      { hint: 'repair it with: nix-store --repair-path' },
    );
  }
}
