import { isNicheError } from '../../errors.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import type { Bucket, Upload } from '../../storage/bucket.ts';
import { stagedNarsKey } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import { sendVerifiedNar } from './local-path.ts';
import type { LocalPath, OnFailed } from './local-path.ts';
import type { UploadJournal } from '../local/upload-journal.ts';

export interface LargeUploadOptions {
  readonly bucket: Bucket;
  readonly signal?: AbortSignal | undefined;
  /** Where unfinished uploads are recorded, so that the next run can resume them. */
  readonly journal?: UploadJournal | undefined;
  readonly onFailed: OnFailed;
}

/** The paths of a batch whose NARs are stored; the others were reported to `onFailed`. */
export interface UploadedNars {
  readonly id: BatchId;
  readonly paths: readonly LocalPath[];
}

interface OpenUpload {
  readonly id: BatchId;
  readonly upload: Upload;
  /** Bytes at the start of the NAR that an earlier run has stored. */
  readonly storedBytes: number;
}

/**
 * Uploads the NAR of a path that has a batch of its own.
 *
 * @param id the batch to create, unless an earlier one can be resumed
 * @returns the batch that was created or resumed
 * @throws NicheError `storage-…` when the bucket fails, `aborted`
 */
export async function uploadLargeNar(
  id: BatchId,
  path: LocalPath,
  options: LargeUploadOptions,
): Promise<UploadedNars> {
  const { journal } = options;
  const opened = await resumeOrOpenUpload(id, path.info, options);
  const { upload } = opened;
  let isRecorded = false;
  const recordProgress = (): void => {
    if (isRecorded || upload.token === undefined) return;
    journal?.recordUnfinished(path.info, { id: opened.id, token: upload.token });
    isRecorded = true;
  };
  const discard = async (): Promise<void> => {
    journal?.forgetUnfinished(path.info);
    await upload.abort();
  };
  const send = async (nar: AsyncIterable<Uint8Array>): Promise<void> => {
    for await (const chunk of skipBytes(nar, opened.storedBytes)) {
      await upload.write(chunk);
      recordProgress();
    }
  };
  const isResumable = (error: unknown): boolean =>
    journal !== undefined && isRecorded && isNicheError(error, 'aborted', 'storage-unavailable');

  try {
    if (!(await sendVerifiedNar(path, send, options.onFailed))) {
      await discard();
      return { id: opened.id, paths: [] };
    }
    await upload.commit({ ifAbsent: true });
    return { id: opened.id, paths: [path] };
  } catch (error) {
    // A resumable upload stays for the next run; if none comes, a sweep deletes it.
    if (!isResumable(error)) await discard();
    throw error;
  }
}

async function resumeOrOpenUpload(
  id: BatchId,
  info: PathInfo,
  { bucket, journal, signal }: LargeUploadOptions,
): Promise<OpenUpload> {
  const unfinished = bucket.resumeUpload ? (journal?.claimUnfinished(info) ?? null) : null;
  if (unfinished) {
    const key = stagedNarsKey(unfinished.id, 'none');
    const resumed = await bucket.resumeUpload?.(key, unfinished.token, { signal });
    if (resumed) return { ...resumed, id: unfinished.id };
    journal?.forgetUnfinished(info);
  }
  const key = stagedNarsKey(id, 'none');
  const upload = await bucket.upload(key, { size: info.narSize, signal });
  return { id, upload, storedBytes: 0 };
}

/** Reads all of `source`, and yields what follows its first `count` bytes. */
async function* skipBytes(
  source: AsyncIterable<Uint8Array>,
  count: number,
): AsyncIterable<Uint8Array> {
  let left = count;
  for await (const chunk of source) {
    const rest = chunk.subarray(left);
    left = Math.max(0, left - chunk.length);
    if (rest.length > 0) yield rest;
  }
}
