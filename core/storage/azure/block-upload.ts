import { NicheError, quote } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import { isAzureError, mayHaveReachedAzure } from './errors.ts';
import { abortable, headBlob } from './read.ts';
import type { AzureBucketClient } from './client.ts';
import { onePutSink } from './single-put.ts';
import { headersOf, isUnmet, md5, putBlob, readWriter, writerField } from './write.ts';
import type { ObjectOptions, PutOutcome, ResumedUpload, Upload } from '../bucket.ts';
import { createMultipartUpload, type PartSink } from '../http/part-buffer.ts';
import { newWriter, unlessDenied, writeOnce } from '../http/conditional-write.ts';

/** Of one block, in bytes; 50,000 of them make a blob of 390 GiB. */
export const blockBytes = 8 * 2 ** 20;
const blocksAtOnce = 3;

/** {@link Bucket.upload}. */
export function uploadBlob(client: AzureBucketClient, key: string, options: ObjectOptions): Upload {
  client.at(key);
  throwIfAborted(options.signal, `writing ${quote(key)} in ${client.url}`);
  if (!client.mayUseBlocks) return uploadAtOnce(client, key, options);
  return begin(client, key, options, newWriter(), 0);
}

/**
 * {@link Bucket.resumeUpload}: a writer's blocks are known by its prefix.
 *
 * @param token the writer
 */
export async function resumeBlob(
  client: AzureBucketClient,
  key: string,
  token: string,
  options: ObjectOptions,
): Promise<ResumedUpload | null> {
  if (!/^[0-9a-f]{16}$/.test(token)) return null;
  const name = client.at(key);
  const { signal } = options;
  const sizes = await client.run({
    action: `looking for what is left of ${quote(key)} in ${client.url}`,
    signal,
    attempt: async ({ container }) => {
      try {
        const blob = container.getBlockBlobClient(name);
        const { uncommittedBlocks = [] } = await blob.getBlockList(
          'uncommitted',
          abortable(signal),
        );
        return new Map(uncommittedBlocks.map((block) => [block.name, block.size]));
      } catch (error) {
        if (isAzureError(error, 'BlobNotFound')) return new Map<string, number>();
        throw error;
      }
    },
  });
  // Blocks were sent several at once, so that one may be missing where later ones are there.
  let blocks = 0;
  while (sizes.get(blockId(token, blocks)) === blockBytes) blocks += 1;
  if (blocks === 0) return null;
  return {
    upload: begin(client, key, options, token, blocks),
    storedBytes: blocks * blockBytes,
  };
}

/** With a signature that may create and not write; nobody else's blob is ever replaced. */
function uploadAtOnce(client: AzureBucketClient, key: string, options: ObjectOptions): Upload {
  const action = `writing ${quote(key)} in ${client.url}`;
  return createMultipartUpload(onePutSink(client, key, options), {
    action,
    partBytes: blockBytes,
    partsAtOnce: 1,
    signal: options.signal,
  });
}

function begin(
  client: AzureBucketClient,
  key: string,
  options: ObjectOptions,
  writer: string,
  storedParts: number,
): Upload {
  const action = `writing ${quote(key)} in ${client.url}`;
  return createMultipartUpload(blockSink(client, key, options, writer), {
    action,
    partBytes: blockBytes,
    partsAtOnce: blocksAtOnce,
    storedParts,
    signal: options.signal,
  });
}

function blockSink(
  client: AzureBucketClient,
  key: string,
  options: ObjectOptions,
  writer: string,
): PartSink {
  const { signal } = options;
  const name = client.at(key);
  const action = `writing ${quote(key)} in ${client.url}`;

  async function putPart(index: number, bytes: Uint8Array): Promise<void> {
    await client.run({
      action,
      signal,
      attempt: async ({ container }) => {
        const blob = container.getBlockBlobClient(name);
        await blob.stageBlock(blockId(writer, index), bytes, bytes.length, {
          ...abortable(signal),
          transactionalContentMD5: md5(bytes),
        });
      },
    });
  }

  /** Azure drops all other uncommitted blocks of the blob, whosever they are. */
  async function commit(blocks: number, ifAbsent: boolean): Promise<PutOutcome> {
    const conditions = ifAbsent ? { ifNoneMatch: '*' } : {};
    const ids = Array.from({ length: blocks }, (_, index) => blockId(writer, index));
    const refusal = await writeOnce(client, {
      action,
      signal,
      writer,
      attempt: async ({ container }) => {
        await container.getBlockBlobClient(name).commitBlockList(ids, {
          ...abortable(signal),
          conditions,
          blobHTTPHeaders: headersOf(options),
          metadata: { [writerField]: writer },
        });
      },
      isRefused: (error) => isUnmet(error, conditions) || isDropped(error),
      mayHaveHappened: mayHaveReachedAzure,
      readWriter: () => readWriter(client, key),
    });
    if (refusal === null) return 'created';
    if (!isDropped(refusal.error) || (ifAbsent && (await isThere()))) return 'exists';
    throw new NicheError(
      'storage-unavailable',
      `${action} failed: another writer of the same blob has ended, and Azure dropped what this one had sent`,
      { hint: 'try again' },
    );
  }

  async function isThere(): Promise<boolean> {
    return (await unlessDenied(headBlob(client, key), null)) !== null;
  }

  return {
    token: () => writer,
    putPart,
    putWhole: (bytes, ifAbsent) => putBlob(client, key, bytes, { ...options, ifAbsent }),
    async complete(index, last, ifAbsent) {
      // Of an upload that was gone on with nothing may be left to send.
      if (last.length > 0) await putPart(index, last);
      return commit(last.length > 0 ? index + 1 : index, ifAbsent);
    },
    // Azure has no request for it: blocks that nobody commits are dropped after a week.
    discard: () => Promise.resolve(),
  };
}

/** Whether Azure no longer has the blocks: any commit drops all other uncommitted blocks of a blob. */
function isDropped(error: unknown): boolean {
  return isAzureError(error, 'InvalidBlockList');
}

/** Of one length for all of a blob's blocks, as Azure asks. */
function blockId(writer: string, index: number): string {
  return Buffer.from(`${writer}-${String(index).padStart(6, '0')}`).toString('base64');
}
