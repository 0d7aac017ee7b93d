import { quote } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { Bucket } from '../bucket.ts';
import { deleteObjects, getObject, headObject, listObjects } from './read.ts';
import { createGoogleBucketClient, type GoogleOptions } from './client.ts';
import { resumeObject, uploadObject } from './resumable-upload.ts';
import { parseGoogleUrl } from './url.ts';
import { deleteGenerations } from './versions.ts';
import { putObject, replaceObject } from './write.ts';

export type { GoogleOptions } from './client.ts';

/**
 * Opens a bucket in Google Cloud Storage: `gs://bucket/prefix?endpoint=`, over the JSON API. The
 * credentials are loaded at the first request.
 *
 * @throws NicheError `invalid-url`; `usage` for another storage's credentials
 */
export function openGoogleBucket(url: string, options: GoogleOptions = {}): Bucket {
  const client = createGoogleBucketClient(parseGoogleUrl(url), options);
  return {
    url: client.url,
    capabilities: { conditionalPut: true, conditionalComplete: true, conditionalReplace: true },
    async head(key, request) {
      return (await headObject(client, key, request))?.info ?? null;
    },
    get: (key, request) => getObject(client, key, request),
    put: (key, body, request) => putObject(client, key, body, request),
    replace: (key, body, etag, request) => replaceObject(client, key, body, etag, request),
    // eslint-disable-next-line @typescript-eslint/require-await -- a bad key must reject, not throw
    async upload(key, request = {}) {
      return uploadObject(client, key, request);
    },
    resumeUpload: (key, token, request = {}) => resumeObject(client, key, token, request),
    list: (prefix, request) => listObjects(client, prefix, request),
    deleteVersions: (key, request) => deleteGenerations(client, key, request),
    async delete(keys, request) {
      throwIfAborted(request?.signal, `deleting ${quote(keys[0] ?? '')} in ${client.url}`);
      await deleteObjects(client, keys, request?.signal);
    },
  };
}
