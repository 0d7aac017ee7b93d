import { NicheError, quote } from '../../errors.ts';
import { isAzureError, mayHaveReachedAzure } from './errors.ts';
import { abortable, headBlob } from './read.ts';
import type { AzureBucketClient } from './client.ts';
import { headersOf, isUnmet, md5, putBlob, readWriter, writerField } from './write.ts';
import type { ObjectOptions, PutOutcome } from '../bucket.ts';
import type { PartSink } from '../http/multipart-upload.ts';
import { unlessDenied, writeOnce } from '../http/conditional-write.ts';

/** The size of one block, in bytes; Azure's limit of 50,000 blocks allows a blob of 390 GiB. */
export const blockBytes = 8 * 2 ** 20;

/** Returns how many of the writer's first blocks are stored and not yet committed. */
export async function countStoredBlocks(
  client: AzureBucketClient,
  key: string,
  writer: string,
  signal: AbortSignal | undefined,
): Promise<number> {
  const name = client.blobName(key);
  const sizes = await client.run({
    action: `finding the stored parts of ${quote(key)} in ${client.url}`,
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
  // Blocks are sent several at once, so one may be missing before later ones.
  let blocks = 0;
  while (sizes.get(blockId(writer, blocks)) === blockBytes) blocks += 1;
  return blocks;
}

/** Stores the parts of one upload as blocks, and commits them as one blob. */
export function blockSink(
  client: AzureBucketClient,
  key: string,
  options: ObjectOptions,
  writer: string,
): PartSink {
  const { signal } = options;
  const name = client.blobName(key);
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

  /** Commits the first blocks. Azure then drops all other uncommitted blocks of the blob. */
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
      `${action} failed: another writer of the same blob finished first, and Azure dropped these blocks`,
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
      // A resumed upload may have nothing left to send.
      if (last.length > 0) await putPart(index, last);
      return commit(last.length > 0 ? index + 1 : index, ifAbsent);
    },
    // Azure has no such request: it drops uncommitted blocks after a week.
    discard: () => Promise.resolve(),
  };
}

/** Whether Azure no longer has the blocks: any commit drops all other uncommitted blocks of a blob. */
function isDropped(error: unknown): boolean {
  return isAzureError(error, 'InvalidBlockList');
}

/** Returns an id of constant length: Azure requires that of all blocks of a blob. */
function blockId(writer: string, index: number): string {
  return Buffer.from(`${writer}-${String(index).padStart(6, '0')}`).toString('base64');
}
