import { quote } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import { getBlob, headBlob, listBlobs } from './read.ts';
import { createAzureBucketClient, type AzureOptions } from './client.ts';
import { resumeBlob, uploadBlob } from './upload.ts';
import { parseAzureUrl } from './url.ts';
import { deleteBlobVersions } from './versions.ts';
import { deleteBlobs, putBlob, replaceBlob } from './write.ts';
import type { Bucket } from '../bucket.ts';

export type { AzureOptions } from './client.ts';

/**
 * Opens a bucket in Azure Blob Storage: `azure://account/container/prefix?endpoint=`. Objects are block
 * blobs. The account must not have a hierarchical namespace, whose listings have another order.
 *
 * @throws NicheError `invalid-url`; `usage` for another storage's credentials
 */
export function openAzureBucket(url: string, options: AzureOptions = {}): Bucket {
  const client = createAzureBucketClient(parseAzureUrl(url), options);
  return {
    url: client.url,
    capabilities: { conditionalPut: true, conditionalComplete: true, conditionalReplace: true },
    async head(key, request) {
      return (await headBlob(client, key, request))?.info ?? null;
    },
    get: (key, request) => getBlob(client, key, request),
    put: (key, body, request) => putBlob(client, key, body, request),
    replace: (key, body, etag, request) => replaceBlob(client, key, body, etag, request),
    // eslint-disable-next-line @typescript-eslint/require-await -- a bad key must reject, not throw
    async upload(key, request = {}) {
      return uploadBlob(client, key, request);
    },
    resumeUpload: (key, token, request = {}) => resumeBlob(client, key, token, request),
    list: (prefix, request) => listBlobs(client, prefix, request),
    deleteVersions: (key, request) => deleteBlobVersions(client, key, request),
    async delete(keys, request) {
      throwIfAborted(request?.signal, `deleting ${quote(keys[0] ?? '')} in ${client.url}`);
      await deleteBlobs(client, keys, request?.signal);
    },
  };
}
