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
import type { S3Session } from './client.ts';
import { unlessDenied } from '../http/unless-denied.ts';
import { newWriter } from '../http/conditional-write.ts';

/** The metadata that names an object's writer. */
export const writerField = 'niche-writer';

/** {@link Bucket.put}. */
export async function putObject(
  session: S3Session,
  key: string,
  body: Uint8Array,
  options: PutOptions = {},
): Promise<PutOutcome> {
  const condition = options.ifAbsent === true ? { IfNoneMatch: '*' } : {};
  const { capabilities } = session.provider;
  if (options.ifAbsent === true && !capabilities.conditionalPut) {
    if (await isSeen(session, key, options)) return 'exists';
    await write(session, key, body, options, {});
    return 'created';
  }
  return (await write(session, key, body, options, condition)) ? 'created' : 'exists';
}

/** {@link Bucket.replace}. */
export async function replaceObject(
  session: S3Session,
  key: string,
  body: Uint8Array,
  etag: string,
  options: ObjectOptions = {},
): Promise<ReplaceOutcome> {
  if (!session.provider.capabilities.conditionalReplace) {
    if ((await headObject(session, key, options))?.info.etag !== etag) return 'changed';
    await write(session, key, body, options, {});
    return 'replaced';
  }
  return (await write(session, key, body, options, { IfMatch: etag })) ? 'replaced' : 'changed';
}

/** @returns false when the condition did not hold */
async function write(
  session: S3Session,
  key: string,
  body: Uint8Array,
  options: PutOptions,
  condition: Pick<PutObjectCommandInput, 'IfNoneMatch' | 'IfMatch'>,
): Promise<boolean> {
  const { signal } = options;
  const isConditional = Object.keys(condition).length > 0;
  const writer = newWriter();
  const digest = options.sha256 ?? hash('sha256', body, 'buffer');
  signDigest(body, digest);
  const put = {
    Bucket: session.bucket,
    Key: session.at(key),
    Body: body,
    ...condition,
    ...objectHeaders(options),
    ...(isConditional ? { Metadata: { [writerField]: writer } } : {}),
    ...(session.provider.checksums ? { ChecksumSHA256: base64(digest) } : {}),
  };
  const earlier = { attempts: 0, mayBeThere: false };
  const isWritten = await session.run({
    action: `writing ${quote(key)} in ${session.url}`,
    signal,
    attempt: async ({ sdk, client, until, putDirectly }) => {
      earlier.attempts += 1;
      try {
        // What did not work that way the SDK repeats: it sets its clock, and tells what is wrong.
        const direct = earlier.attempts === 1 ? await putDirectly() : null;
        const outcome = await direct?.(put, digest, signal);
        if (outcome === 'stored') return true;
        if (outcome === 'unmet' && isConditional) return false;
        await client.send(new sdk.PutObjectCommand(put), until);
        return true;
      } catch (error) {
        const isGone = 'IfMatch' in condition && isS3Error(error, 404);
        const isRefused = isUnmet(error) || (isGone && !isS3Error(error, 'NoSuchBucket'));
        if (isConditional && isRefused) return false;
        earlier.mayBeThere ||= mayHaveReachedS3(error);
        throw error;
      }
    },
  });
  // An earlier attempt whose answer was lost may be what stood in the way of the last one.
  return isWritten || (earlier.mayBeThere && (await isOurs(session, key, writer)) === true);
}

/**
 * Whether there is an object under `key`, before a write that nothing makes conditional. Clients may
 * write below `staging/` and not look there: what they write has an id of their own, so it is new.
 */
export async function isSeen(
  session: S3Session,
  key: string,
  options?: RequestOptions,
): Promise<boolean> {
  return (await unlessDenied(headObject(session, key, options), null)) !== null;
}

/** Whether the object under `key` was written by `writer`; null for whoever may not ask. */
export async function isOurs(
  session: S3Session,
  key: string,
  writer: string,
): Promise<boolean | null> {
  const look = headObject(session, key).then((found) => found?.metadata[writerField] === writer);
  return unlessDenied(look, null);
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
