import { isNicheError } from '../../errors.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import type { Bucket, Upload } from '../../storage/bucket.ts';
import { stagedNarsKey } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import { packVerified } from './local-path.ts';
import type { LocalPath, OnFailed } from './local-path.ts';
import type { UploadJournal } from '../local/upload-journal.ts';

export interface LargeOptions {
  readonly bucket: Bucket;
  readonly signal?: AbortSignal | undefined;
  /** What a run that was killed has left of large NARs is gone on with. */
  readonly journal?: UploadJournal | undefined;
  /** Hears of each path that could not be staged; the others go on. */
  readonly onFailed: OnFailed;
}

/** The batch that was made of some paths, and those of them whose NARs are in it. */
export interface Staged {
  readonly id: BatchId;
  readonly staged: readonly LocalPath[];
}

interface OpenSink {
  readonly id: BatchId;
  readonly sink: Upload;
  /** How many of the NAR's first bytes an earlier run has stored. */
  readonly storedBytes: number;
}

/**
 * Stages the NAR of a path that is a batch of its own.
 *
 * @returns the batch that it became: an earlier one, where that was gone on with
 */
export async function stageLarge(
  next: BatchId,
  path: LocalPath,
  options: LargeOptions,
): Promise<Staged> {
  const { journal } = options;
  const { id, sink, storedBytes } = await openSink(next, path.info, options);
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
  const send = async (nar: AsyncIterable<Uint8Array>): Promise<void> => {
    for await (const chunk of without(nar, storedBytes)) {
      await sink.write(chunk);
      note();
    }
  };
  try {
    if (!(await packVerified(path, send, options.onFailed))) {
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

async function openSink(
  next: BatchId,
  info: PathInfo,
  { bucket, journal, signal }: LargeOptions,
): Promise<OpenSink> {
  const left = bucket.resumeUpload ? (journal?.claim(info) ?? null) : null;
  if (left) {
    const key = stagedNarsKey(left.id, 'none');
    const resumed = await bucket.resumeUpload?.(key, left.token, { signal });
    if (resumed) return { id: left.id, sink: resumed.upload, storedBytes: resumed.storedBytes };
    journal?.forgetUnfinished(info);
  }
  const key = stagedNarsKey(next, 'none');
  const sink = await bucket.upload(key, { size: info.narSize, signal });
  return { id: next, sink, storedBytes: 0 };
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
