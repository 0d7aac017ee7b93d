import { quote } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { Bucket } from '../bucket.ts';
import { deleteObjects, listObjects, sweepS3Uploads } from './list.ts';
import { createBucketCheck, getObject, headObject } from './read.ts';
import { createS3BucketClient, type S3Options } from './client.ts';
import { createUpload, resumeUpload } from './multipart-upload.ts';
import type { S3Location } from './url.ts';
import { deleteObjectVersions } from './versions.ts';
import { putObject, replaceObject } from './write.ts';

/**
 * Opens a bucket of Amazon S3, or of another server with its protocol. The SDK and the credentials are
 * loaded at the first request.
 *
 * @throws NicheError `usage` for another kind of storage's credentials
 */
export function openS3Bucket(location: S3Location, options: S3Options = {}): Bucket {
  const client = createS3BucketClient(location, options);
  const { url } = client;
  const checkBucket = createBucketCheck(client);

  return {
    url,
    capabilities: client.provider.capabilities,
    async head(key, request) {
      throwIfAborted(request?.signal, `checking ${quote(key)} in ${url}`);
      const found = await headObject(client, key, request);
      if (found !== null) return found.info;
      await checkBucket(request?.signal);
      return null;
    },
    async get(key, request) {
      throwIfAborted(request?.signal, `reading ${quote(key)} in ${url}`);
      return getObject(client, key, request);
    },
    async put(key, body, request) {
      throwIfAborted(request?.signal, `writing ${quote(key)} in ${url}`);
      return putObject(client, key, body, request);
    },
    async replace(key, body, etag, request) {
      throwIfAborted(request?.signal, `replacing ${quote(key)} in ${url}`);
      return replaceObject(client, key, body, etag, request);
    },
    // eslint-disable-next-line @typescript-eslint/require-await -- nothing is sent before the first part
    async upload(key, request) {
      throwIfAborted(request?.signal, `writing ${quote(key)} in ${url}`);
      return createUpload(client, key, request);
    },
    resumeUpload: (key, token, request) => resumeUpload(client, key, token, request),
    list: (prefix, request) => listObjects(client, prefix, request),
    async delete(keys, request) {
      throwIfAborted(request?.signal, `deleting in ${url}`);
      return deleteObjects(client, keys, request);
    },
    async deleteVersions(key, request) {
      throwIfAborted(request?.signal, `deleting the versions of ${quote(key)} in ${url}`);
      return deleteObjectVersions(client, key, request);
    },
    sweepUploads: (prefix, olderThan) => sweepS3Uploads(client, prefix, olderThan),
  };
}
