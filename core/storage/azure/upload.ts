import { quote } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { ObjectOptions, ResumedUpload, Upload } from '../bucket.ts';
import { createWriterId } from '../http/conditional-write.ts';
import { createMultipartUpload } from '../http/multipart-upload.ts';
import { blockBytes, blockSink, countStoredBlocks } from './block-upload.ts';
import type { AzureBucketClient } from './client.ts';
import { maxSinglePutBytes, singlePutSink } from './single-put.ts';

const blocksAtOnce = 3;

/** {@link Bucket.upload}: in blocks, or in one request where a SAS token denies blocks or may do so. */
export function uploadBlob(client: AzureBucketClient, key: string, options: ObjectOptions): Upload {
  client.blobName(key);
  const action = `writing ${quote(key)} in ${client.url}`;
  const { signal, size = Infinity } = options;
  throwIfAborted(signal, action);
  const mayDeny = client.blocks === 'unknown' && size <= maxSinglePutBytes;
  if (client.blocks !== 'denied' && !mayDeny)
    return uploadBlocks(client, key, options, createWriterId(), 0);
  const sink = singlePutSink(client, key, options);
  return createMultipartUpload(sink, { action, partBytes: blockBytes, partsAtOnce: 1, signal });
}

/**
 * {@link Bucket.resumeUpload}: the ids of a writer's blocks begin with its name.
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
  const blocks = await countStoredBlocks(client, key, token, options.signal);
  if (blocks === 0) return null;
  return {
    upload: uploadBlocks(client, key, options, token, blocks),
    storedBytes: blocks * blockBytes,
  };
}

function uploadBlocks(
  client: AzureBucketClient,
  key: string,
  options: ObjectOptions,
  writer: string,
  storedParts: number,
): Upload {
  return createMultipartUpload(blockSink(client, key, options, writer), {
    action: `writing ${quote(key)} in ${client.url}`,
    partBytes: blockBytes,
    partsAtOnce: blocksAtOnce,
    storedParts,
    signal: options.signal,
  });
}
