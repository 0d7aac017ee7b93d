import { NicheError, quote } from '../../errors.ts';
import type { RequestOptions } from '../bucket.ts';
import type { S3BucketClient } from './client.ts';
import { isS3Error } from './errors.ts';
import { deleteObjects } from './list.ts';

/** One version of an object, or the marker that a deletion left. */
interface Version {
  readonly Key: string;
  readonly VersionId: string | undefined;
}

/** {@link Bucket.deleteVersions}, a page of versions a request. */
export async function deleteObjectVersions(
  client: S3BucketClient,
  key: string,
  options: RequestOptions = {},
): Promise<void> {
  const fullKey = client.fullKey(key);
  const action = `deleting the versions of ${quote(key)} in ${client.url}`;
  let last = '';
  for (;;) {
    const versions = await listVersions(client, fullKey, action, options);
    // A server without versions, such as Cloudflare R2, does not know the request.
    if (versions === null) return deleteObjects(client, [key], options);
    if (versions.length === 0) return;
    const listed = versions.map(({ VersionId }) => VersionId).join();
    if (listed === last) throw stillThere(action);
    last = listed;
    await client.run({
      action,
      signal: options.signal,
      attempt: async ({ sdk, s3, sendOptions }) => {
        const Delete = { Objects: versions, Quiet: true };
        const { Errors = [] } = await s3.send(
          new sdk.DeleteObjectsCommand({ Bucket: client.bucket, Delete }),
          sendOptions,
        );
        const failed = Errors.find(({ Code }) => Code !== 'NoSuchKey' && Code !== 'NoSuchVersion');
        if (!failed) return;
        throw Object.assign(new Error(failed.Message), { name: failed.Code ?? 'InternalError' });
      },
    });
  }
}

function stillThere(action: string): NicheError {
  return new NicheError(
    'storage-unavailable',
    `${action} failed: the storage reports that they are deleted, but still lists them`,
  );
}

/** Returns the next versions of the object; null if the server has no versions. */
async function listVersions(
  client: S3BucketClient,
  fullKey: string,
  action: string,
  { signal }: RequestOptions,
): Promise<Version[] | null> {
  return client.run({
    action,
    signal,
    attempt: async ({ sdk, s3, sendOptions }) => {
      const command = new sdk.ListObjectVersionsCommand({ Bucket: client.bucket, Prefix: fullKey });
      try {
        // In the order of the keys, so the first page has versions of this key if there are any.
        const { Versions = [], DeleteMarkers = [] } = await s3.send(command, sendOptions);
        return [...Versions, ...DeleteMarkers]
          .filter(({ Key }) => Key === fullKey)
          .map(({ Key = '', VersionId }) => ({ Key, VersionId }));
      } catch (error) {
        if (isS3Error(error, 'NotImplemented', 'MethodNotAllowed', 501, 405)) return null;
        throw error;
      }
    },
  });
}
