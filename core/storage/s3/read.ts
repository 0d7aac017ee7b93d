import type { Readable } from 'node:stream';
import { quote } from '../../errors.ts';
import type { GetOptions, ObjectInfo, RequestOptions, StoredObject } from '../bucket.ts';
import { rangeHeader } from '../range.ts';
import { requireSize, openObject, type ObjectResponse } from '../http/ranged-read.ts';
import { isS3Error } from './errors.ts';
import type { S3BucketClient } from './client.ts';

/** An object with its metadata. */
interface S3Head {
  readonly info: ObjectInfo;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Returns a check that the bucket exists: a HEAD of an object responds with 404 in either case. */
export function createBucketCheck(client: S3BucketClient): (signal?: AbortSignal) => Promise<void> {
  let isThere = false;
  return async (signal) => {
    if (isThere) return;
    await client.run({
      action: `opening ${client.url}`,
      signal,
      attempt: async ({ sdk, s3, sendOptions }) => {
        try {
          const command = new sdk.HeadBucketCommand({ Bucket: client.bucket });
          await s3.send(command, sendOptions);
        } catch (error) {
          // Credentials that may not check the bucket may still use it.
          if (isS3Error(error, 403)) return;
          if (isS3Error(error, 404)) throw Object.assign(new Error(), { name: 'NoSuchBucket' });
          throw error;
        }
      },
    });
    isThere = true;
  };
}

/** {@link Bucket.head}, with the object's metadata. */
export async function headObject(
  client: S3BucketClient,
  key: string,
  options?: RequestOptions,
): Promise<S3Head | null> {
  const { signal } = options ?? {};
  const Key = client.fullKey(key);
  return client.run({
    action: `checking ${quote(key)} in ${client.url}`,
    signal,
    attempt: async ({ sdk, s3, sendOptions }) => {
      try {
        const command = new sdk.HeadObjectCommand({ Bucket: client.bucket, Key });
        const response = await s3.send(command, sendOptions);
        return {
          info: { key, size: requireSize(response.ContentLength), ...versionOf(response) },
          metadata: response.Metadata ?? {},
        };
      } catch (error) {
        if (isS3Error(error, 404)) return null;
        throw error;
      }
    },
  });
}

/** {@link Bucket.get} */
export async function getObject(
  client: S3BucketClient,
  key: string,
  options?: GetOptions,
): Promise<StoredObject | null> {
  const { signal } = options ?? {};
  const Key = client.fullKey(key);
  const action = `reading ${quote(key)} in ${client.url}`;
  return openObject(
    {
      key,
      action,
      head: async () => (await headObject(client, key, options))?.info ?? null,
      request: (range, etag) =>
        client.run<ObjectResponse | 'gone' | 'beyond'>({
          action,
          signal,
          attempt: async ({ sdk, s3, sendOptions }) => {
            const Range = rangeHeader(range);
            try {
              const command = new sdk.GetObjectCommand({
                Bucket: client.bucket,
                Key,
                ...(Range === undefined ? {} : { Range }),
                ...(etag === undefined ? {} : { IfMatch: etag }),
              });
              const response = await s3.send(command, sendOptions);
              return {
                ...versionOf(response),
                contentLength: response.ContentLength,
                contentRange: response.ContentRange,
                stream: response.Body as Readable,
              };
            } catch (error) {
              if (isS3Error(error, 'NoSuchKey')) return 'gone';
              if (isS3Error(error, 'InvalidRange', 416)) return 'beyond';
              if (etag !== undefined && isS3Error(error, 412)) return 'gone';
              throw error;
            }
          },
        }),
    },
    options,
  );
}

function versionOf(described: {
  readonly LastModified?: Date | undefined;
  readonly ETag?: string | undefined;
}): Pick<ObjectInfo, 'modified' | 'etag'> {
  return { modified: toWholeSecond(described.LastModified), etag: described.ETag ?? '' };
}

/** Drops fractions of a second, which a listing has and a HEAD lacks. Both must agree. */
export function toWholeSecond(time: Date | undefined): Date {
  return new Date(Math.floor((time?.getTime() ?? 0) / 1000) * 1000);
}
