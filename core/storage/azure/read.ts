import type { Readable } from 'node:stream';
import { quote } from '../../errors.ts';
import { isAzureError } from './errors.ts';
import type { AzureBucketClient } from './client.ts';
import type {
  GetOptions,
  ListedObject,
  ObjectInfo,
  RequestOptions,
  StoredObject,
} from '../bucket.ts';
import { assertPrefix } from '../keys.ts';
import { listPages, type ListedPage } from '../http/paged-list.ts';
import { requireSize, openObject, type ObjectResponse } from '../http/ranged-read.ts';

/** Azure's limit on the blobs of one page. */
const pageSize = 5000;

/** A blob with its metadata. */
export interface DescribedBlob {
  readonly info: ObjectInfo;
  readonly metadata: Readonly<Record<string, string>>;
}

/** {@link Bucket.head}, with the blob's metadata. */
export async function headBlob(
  client: AzureBucketClient,
  key: string,
  options?: RequestOptions,
): Promise<DescribedBlob | null> {
  const { signal } = options ?? {};
  const name = client.blobName(key);
  return client.run({
    action: `checking ${quote(key)} in ${client.url}`,
    signal,
    attempt: async ({ container }) => {
      try {
        const found = await container.getBlobClient(name).getProperties(abortable(signal));
        return {
          info: { key, size: requireSize(found.contentLength), ...versionOf(found) },
          metadata: found.metadata ?? {},
        };
      } catch (error) {
        if (isAzureError(error, 'BlobNotFound')) return null;
        throw error;
      }
    },
  });
}

/** {@link Bucket.get} */
export async function getBlob(
  client: AzureBucketClient,
  key: string,
  options: GetOptions = {},
): Promise<StoredObject | null> {
  const { signal } = options;
  const name = client.blobName(key);
  const action = `reading ${quote(key)} in ${client.url}`;
  return openObject(
    {
      key,
      action,
      head: async () => (await headBlob(client, key, options))?.info ?? null,
      request: ({ start, end }, etag) =>
        client.run<ObjectResponse | 'gone' | 'beyond'>({
          action,
          signal,
          attempt: async ({ container }) => {
            const count = end === Number.MAX_SAFE_INTEGER ? undefined : end - start;
            try {
              const response = await container.getBlobClient(name).download(start, count, {
                ...abortable(signal),
                ...(etag === undefined ? {} : { conditions: { ifMatch: etag } }),
                maxRetryRequests: 0,
              });
              return {
                ...versionOf(response),
                contentLength: response.contentLength,
                contentRange: response.contentRange,
                stream: response.readableStreamBody as Readable,
              };
            } catch (error) {
              if (isAzureError(error, 'BlobNotFound')) return 'gone';
              if (isAzureError(error, 'InvalidRange', 416)) return 'beyond';
              if (etag !== undefined && isAzureError(error, 412)) return 'gone';
              throw error;
            }
          },
        }),
    },
    options,
  );
}

/** {@link Bucket.list}. */
export async function* listBlobs(
  client: AzureBucketClient,
  prefix: string,
  { signal }: RequestOptions = {},
): AsyncIterable<ListedObject> {
  assertPrefix(prefix);
  const { prefix: root } = client.location;
  const action = `listing ${quote(prefix)} in ${client.url}`;
  const page = async (token: string | undefined): Promise<ListedPage> =>
    client.run({
      action,
      signal,
      attempt: async ({ container }) => {
        const listing = container
          .listBlobsFlat({ prefix: root + prefix, ...abortable(signal) })
          .byPage({
            maxPageSize: pageSize,
            ...(token === undefined ? {} : { continuationToken: token }),
          });
        const response = await listing.next();
        const found = response.done === true ? undefined : response.value;
        const objects = (found?.segment.blobItems ?? []).map(({ name, properties }) => {
          const key = name.slice(root.length);
          return { key, size: properties.contentLength ?? 0, ...versionOf(properties) };
        });
        // An empty token means the last page.
        const next = found?.continuationToken === '' ? undefined : found?.continuationToken;
        return { objects, next };
      },
    });
  yield* listPages({ action, signal, page });
}

/** Returns options for the SDK, which takes no `undefined`. */
export function abortable(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

/** Normalizes the etag, which has no quotes in a listing. */
function versionOf(described: {
  readonly lastModified?: Date | undefined;
  readonly etag?: string | undefined;
}): Pick<ObjectInfo, 'modified' | 'etag'> {
  const etag = (described.etag ?? '').replaceAll('"', '');
  return { modified: described.lastModified ?? new Date(0), etag: `"${etag}"` };
}
