import type { BlobHTTPHeaders } from '@azure/storage-blob';
import { hash } from 'node:crypto';
import { quote } from '../../errors.ts';
import { isAzureError, mayHaveReachedAzure } from './errors.ts';
import { abortable, headBlob } from './read.ts';
import type { AzureBucketClient } from './client.ts';
import type { ObjectOptions, PutOptions, PutOutcome, ReplaceOutcome } from '../bucket.ts';
import { assertDigest } from '../digest.ts';
import { createWriterId, writeOnce } from '../http/conditional-write.ts';
import { mapConcurrent } from '../../util/concurrency.ts';

/** The metadata field of a blob's writer. */
export const writerField = 'niche_writer';

const deletesAtOnce = 16;

/** {@link Bucket.put}. */
export async function putBlob(
  client: AzureBucketClient,
  key: string,
  body: Uint8Array,
  options: PutOptions = {},
): Promise<PutOutcome> {
  client.blobName(key);
  const action = `writing ${quote(key)} in ${client.url}`;
  if (options.sha256 !== undefined) assertDigest(body, options.sha256, action);
  const conditions = options.ifAbsent === true ? { ifNoneMatch: '*' } : {};
  return (await write(client, key, body, options, conditions)) ? 'created' : 'exists';
}

/** {@link Bucket.replace}. */
export async function replaceBlob(
  client: AzureBucketClient,
  key: string,
  body: Uint8Array,
  etag: string,
  options: ObjectOptions = {},
): Promise<ReplaceOutcome> {
  return (await write(client, key, body, options, { ifMatch: etag })) ? 'replaced' : 'changed';
}

/** Returns false when the condition did not hold. */
async function write(
  client: AzureBucketClient,
  key: string,
  body: Uint8Array,
  options: ObjectOptions,
  conditions: { readonly ifNoneMatch?: string; readonly ifMatch?: string },
): Promise<boolean> {
  const { signal } = options;
  const name = client.blobName(key);
  const writer = createWriterId();
  const isConditional = Object.keys(conditions).length > 0;
  const refusal = await writeOnce(client, {
    action: `writing ${quote(key)} in ${client.url}`,
    signal,
    writer,
    attempt: async ({ container }) => {
      await container.getBlockBlobClient(name).upload(body, body.length, {
        ...abortable(signal),
        conditions,
        blobHTTPHeaders: { ...headersOf(options), blobContentMD5: md5(body) },
        ...(isConditional ? { metadata: { [writerField]: writer } } : {}),
      });
    },
    isRefused: (error) => isUnmet(error, conditions),
    mayHaveHappened: mayHaveReachedAzure,
    readWriter: () => readWriter(client, key),
  });
  return refusal === null;
}

/** Whether a condition did not hold; `ifMatch` fails also for a missing blob. */
export function isUnmet(
  error: unknown,
  conditions: { readonly ifNoneMatch?: string; readonly ifMatch?: string },
): boolean {
  if (conditions.ifNoneMatch !== undefined) return isAzureError(error, 'BlobAlreadyExists', 412);
  return conditions.ifMatch !== undefined && isAzureError(error, 'BlobNotFound', 412);
}

/** Returns the writer of the blob that is there now; undefined where there is none. */
export async function readWriter(
  client: AzureBucketClient,
  key: string,
): Promise<string | undefined> {
  return (await headBlob(client, key))?.metadata[writerField];
}

/**
 * {@link Bucket.delete}, together with the blobs' snapshots: a blob that has snapshots cannot be deleted
 * alone, and clients that may create blobs may also create snapshots. There is one request for each
 * blob. A batch request would take the right `containers/write`, which also changes who can read the
 * container, and costs as much.
 *
 * @see https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory
 */
export async function deleteBlobs(
  client: AzureBucketClient,
  keys: readonly string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const names = keys.map((key) => client.blobName(key));
  await mapConcurrent(names, deletesAtOnce, (name) =>
    client.run({
      action: `deleting in ${client.url}`,
      signal,
      attempt: async ({ container }) => {
        await container
          .getBlobClient(name)
          .deleteIfExists({ ...abortable(signal), deleteSnapshots: 'include' });
      },
    }),
  );
}

export function headersOf({ contentType, cacheControl }: ObjectOptions): BlobHTTPHeaders {
  return {
    ...(contentType === undefined ? {} : { blobContentType: contentType }),
    ...(cacheControl === undefined ? {} : { blobCacheControl: cacheControl }),
  };
}

/** Azure checks an MD5 on arrival, and no SHA-256. */
export function md5(bytes: Uint8Array): Uint8Array {
  return hash('md5', bytes, 'buffer');
}
