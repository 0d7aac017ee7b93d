import { hash } from 'node:crypto';
import type { PutObjectCommandInput } from '@aws-sdk/client-s3';
import { quote } from '../../errors.ts';
import type {
  ObjectOptions,
  PutOptions,
  PutOutcome,
  ReplaceOutcome,
  RequestOptions,
} from '../bucket.ts';
import { signDigest } from './middleware.ts';
import { isS3Error, isUnmet, mayHaveReachedS3 } from './errors.ts';
import { headObject } from './read.ts';
import type { S3BucketClient } from './client.ts';
import { createWriterId, unlessDenied, writeOnce } from '../http/conditional-write.ts';

/** The metadata field of an object's writer. */
export const writerField = 'niche-writer';

/** {@link Bucket.put}. */
export async function putObject(
  client: S3BucketClient,
  key: string,
  body: Uint8Array,
  options: PutOptions = {},
): Promise<PutOutcome> {
  const condition = options.ifAbsent === true ? { IfNoneMatch: '*' } : {};
  const { capabilities } = client.provider;
  if (options.ifAbsent === true && !capabilities.conditionalPut) {
    if (await objectExists(client, key, options)) return 'exists';
    await write(client, key, body, options, {});
    return 'created';
  }
  return (await write(client, key, body, options, condition)) ? 'created' : 'exists';
}

/** {@link Bucket.replace}. */
export async function replaceObject(
  client: S3BucketClient,
  key: string,
  body: Uint8Array,
  etag: string,
  options: ObjectOptions = {},
): Promise<ReplaceOutcome> {
  if (!client.provider.capabilities.conditionalReplace) {
    if ((await headObject(client, key, options))?.info.etag !== etag) return 'changed';
    await write(client, key, body, options, {});
    return 'replaced';
  }
  return (await write(client, key, body, options, { IfMatch: etag })) ? 'replaced' : 'changed';
}

/** Returns false when the condition did not hold. */
async function write(
  client: S3BucketClient,
  key: string,
  body: Uint8Array,
  options: PutOptions,
  condition: Pick<PutObjectCommandInput, 'IfNoneMatch' | 'IfMatch'>,
): Promise<boolean> {
  const { signal } = options;
  const isConditional = Object.keys(condition).length > 0;
  const writer = createWriterId();
  const digest = options.sha256 ?? hash('sha256', body, 'buffer');
  signDigest(body, digest);
  const input = {
    Bucket: client.bucket,
    Key: client.fullKey(key),
    Body: body,
    ...condition,
    ...objectHeaders(options),
    ...(isConditional ? { Metadata: { [writerField]: writer } } : {}),
    ...(client.provider.checksums ? { ChecksumSHA256: base64(digest) } : {}),
  };
  let isFirst = true;
  const refusal = await writeOnce(client, {
    action: `writing ${quote(key)} in ${client.url}`,
    signal,
    writer,
    attempt: async ({ sdk, s3, sendOptions, fastPut }) => {
      const put = isFirst ? await fastPut() : null;
      isFirst = false;
      if ((await put?.(input, digest, signal)) === true) return;
      // The SDK's own command sets its clock by the response, and reads why a write was refused.
      await s3.send(new sdk.PutObjectCommand(input), sendOptions);
    },
    isRefused(error) {
      if (!isConditional) return false;
      const isGone = 'IfMatch' in condition && isS3Error(error, 404);
      return isUnmet(error) || (isGone && !isS3Error(error, 'NoSuchBucket'));
    },
    mayHaveHappened: mayHaveReachedS3,
    readWriter: () => readWriter(client, key),
  });
  return refusal === null;
}

/**
 * Whether there is an object under `key`, before an unconditional write. Clients may write below
 * `staging/` without reading there; their keys contain a random id, so the object is new.
 */
export async function objectExists(
  client: S3BucketClient,
  key: string,
  options?: RequestOptions,
): Promise<boolean> {
  return (await unlessDenied(headObject(client, key, options), null)) !== null;
}

/** Returns the writer of the object that is there now; undefined where there is none. */
export async function readWriter(client: S3BucketClient, key: string): Promise<string | undefined> {
  return (await headObject(client, key))?.metadata[writerField];
}

export function objectHeaders({
  contentType,
  cacheControl,
}: ObjectOptions): Pick<PutObjectCommandInput, 'ContentType' | 'CacheControl'> {
  return {
    ...(contentType === undefined ? {} : { ContentType: contentType }),
    ...(cacheControl === undefined ? {} : { CacheControl: cacheControl }),
  };
}

export function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
