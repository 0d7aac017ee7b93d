import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Bucket } from '../../core/storage/bucket.ts';
import { openFileBucket } from '../../core/storage/file.ts';

export interface TemporaryFileBucket {
  readonly bucket: Bucket;
  /** Absolute. */
  readonly directory: string;
  readonly close: () => Promise<void>;
}

/** A bucket in a directory that `close` removes. */
export async function temporaryFileBucket(): Promise<TemporaryFileBucket> {
  const directory = await mkdtemp(join(tmpdir(), 'niche-bucket-'));
  return {
    bucket: openFileBucket(directory),
    directory,
    close: () => rm(directory, { recursive: true, force: true }),
  };
}
