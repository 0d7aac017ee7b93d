import { quote } from '../../errors.ts';
import type { RequestOptions } from '../bucket.ts';
import { isAzureError } from './errors.ts';
import { abortable } from './read.ts';
import type { AzureBucketClient } from './client.ts';

/**
 * {@link Bucket.deleteVersions}. An account with soft delete keeps them for its retention time: only
 * the account's owner can shorten that.
 */
export async function deleteBlobVersions(
  client: AzureBucketClient,
  key: string,
  { signal }: RequestOptions = {},
): Promise<void> {
  const name = client.blobName(key);
  await client.run({
    action: `deleting the versions of ${quote(key)} in ${client.url}`,
    signal,
    attempt: async ({ container }) => {
      const blob = container.getBlobClient(name);
      // What was the blob becomes its newest version.
      await blob.deleteIfExists({ ...abortable(signal), deleteSnapshots: 'include' });
      const listing = container.listBlobsFlat({
        ...{ prefix: name, includeVersions: true, includeSnapshots: true },
        ...abortable(signal),
      });
      for await (const { name: found, versionId, snapshot } of listing) {
        if (found !== name) continue;
        const version = versionId ? blob.withVersion(versionId) : blob.withSnapshot(snapshot);
        try {
          await version.delete(abortable(signal));
        } catch (error) {
          if (!isAzureError(error, 'BlobNotFound')) throw error;
        }
      }
    },
  });
}
