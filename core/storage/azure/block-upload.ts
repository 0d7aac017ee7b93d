import { NicheError, quote } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import { isAzureError, mayHaveReachedAzure } from './errors.ts';
import { abortable, headBlob } from './read.ts';
import type { AzureSession } from './client.ts';
import { onePutSink } from './single-put.ts';
import { headersOf, isOurs, isRefused, md5, putBlob, writerField } from './write.ts';
import type { ObjectOptions, PutOutcome, ResumedUpload, Upload } from '../bucket.ts';
import { partedUpload, type PartSink } from '../http/part-buffer.ts';
import { unlessDenied } from '../http/unless-denied.ts';
import { newWriter } from '../http/conditional-write.ts';

/** Of one block, in bytes; 50,000 of them make a blob of 390 GiB. */
export const blockBytes = 8 * 2 ** 20;
const blocksAtOnce = 3;

/** {@link Bucket.upload}. */
export function uploadBlob(session: AzureSession, key: string, options: ObjectOptions): Upload {
  session.at(key);
  throwIfAborted(options.signal, `writing ${quote(key)} in ${session.url}`);
  if (!session.mayUseBlocks) return uploadAtOnce(session, key, options);
  return begin(session, key, options, newWriter(), 0);
}

/**
 * {@link Bucket.resumeUpload}: a writer's blocks are known by its prefix.
 *
 * @param token the writer
 */
export async function resumeBlob(
  session: AzureSession,
  key: string,
  token: string,
  options: ObjectOptions,
): Promise<ResumedUpload | null> {
  if (!/^[0-9a-f]{16}$/.test(token)) return null;
  const name = session.at(key);
  const { signal } = options;
  const sizes = await session.run({
    action: `looking for what is left of ${quote(key)} in ${session.url}`,
    signal,
    attempt: async ({ container }) => {
      try {
        const client = container.getBlockBlobClient(name);
        const { uncommittedBlocks = [] } = await client.getBlockList(
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
    upload: begin(session, key, options, token, blocks),
    storedBytes: blocks * blockBytes,
  };
}

/** With a signature that may create and not write; nobody else's blob is ever replaced. */
function uploadAtOnce(session: AzureSession, key: string, options: ObjectOptions): Upload {
  const action = `writing ${quote(key)} in ${session.url}`;
  return partedUpload(onePutSink(session, key, options), {
    action,
    partBytes: blockBytes,
    partsAtOnce: 1,
    signal: options.signal,
  });
}

function begin(
  session: AzureSession,
  key: string,
  options: ObjectOptions,
  writer: string,
  storedParts: number,
): Upload {
  const action = `writing ${quote(key)} in ${session.url}`;
  return partedUpload(blockSink(session, key, options, writer), {
    action,
    partBytes: blockBytes,
    partsAtOnce: blocksAtOnce,
    storedParts,
    signal: options.signal,
  });
}

function blockSink(
  session: AzureSession,
  key: string,
  options: ObjectOptions,
  writer: string,
): PartSink {
  const { signal } = options;
  const name = session.at(key);
  const action = `writing ${quote(key)} in ${session.url}`;

  async function putPart(index: number, bytes: Uint8Array): Promise<void> {
    await session.run({
      action,
      signal,
      attempt: async ({ container }) => {
        const client = container.getBlockBlobClient(name);
        await client.stageBlock(blockId(writer, index), bytes, bytes.length, {
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
    const earlier = { mayHaveWritten: false };
    const outcome = await session.run<PutOutcome | 'dropped'>({
      action,
      signal,
      attempt: async ({ container }) => {
        try {
          await container.getBlockBlobClient(name).commitBlockList(ids, {
            ...abortable(signal),
            conditions,
            blobHTTPHeaders: headersOf(options),
            metadata: { [writerField]: writer },
          });
          return 'created';
        } catch (error) {
          if (isRefused(error, conditions)) return 'exists';
          if (isAzureError(error, 'InvalidBlockList')) return 'dropped';
          earlier.mayHaveWritten ||= mayHaveReachedAzure(error);
          throw error;
        }
      },
    });
    if (outcome === 'created') return outcome;
    // An earlier attempt whose answer was lost may be what stood in the way of the last one.
    if (earlier.mayHaveWritten && (await isOurs(session, key, writer))) return 'created';
    if (outcome === 'exists' || (ifAbsent && (await isThere()))) return 'exists';
    throw new NicheError(
      'storage-unavailable',
      `${action} failed: another writer of the same blob has ended, and Azure dropped what this one had sent`,
      { hint: 'try again' },
    );
  }

  async function isThere(): Promise<boolean> {
    return (await unlessDenied(headBlob(session, key), null)) !== null;
  }

  return {
    token: () => writer,
    putPart,
    putWhole: (bytes, ifAbsent) => putBlob(session, key, bytes, { ...options, ifAbsent }),
    async complete(index, last, ifAbsent) {
      // Of an upload that was gone on with nothing may be left to send.
      if (last.length > 0) await putPart(index, last);
      return commit(last.length > 0 ? index + 1 : index, ifAbsent);
    },
    // Azure has no request for it: blocks that nobody commits are dropped after a week.
    discard: () => Promise.resolve(),
  };
}

/** Of one length for all of a blob's blocks, as Azure asks. */
function blockId(writer: string, index: number): string {
  return Buffer.from(`${writer}-${String(index).padStart(6, '0')}`).toString('base64');
}
