import type { Readable } from 'node:stream';
import { quote } from '../errors.ts';
import type { GetOptions, ObjectInfo, RequestOptions, StoredObject } from './bucket.ts';
import { clipRange, type ByteRange } from './range.ts';
import { emptyBody, resumedBody } from './resumed-body.ts';
import { isS3Error } from './s3-errors.ts';
import type { S3Session } from './s3-session.ts';

/** An object, and what the driver itself has written beside it. */
interface S3Head {
  readonly info: ObjectInfo;
  readonly metadata: Readonly<Record<string, string>>;
}

/** What a request for an object tells of it. */
interface Described {
  readonly LastModified?: Date | undefined;
  readonly ETag?: string | undefined;
}

/** Looks whether the bucket is there, which the answer to a HEAD does not say. */
export function createBucketCheck(session: S3Session): (signal?: AbortSignal) => Promise<void> {
  let isThere = false;
  return async (signal) => {
    if (isThere) return;
    await session.run({
      action: `opening ${session.url}`,
      signal,
      attempt: async ({ sdk, client, until }) => {
        try {
          const command = new sdk.HeadBucketCommand({ Bucket: session.bucket });
          await client.send(command, until);
        } catch (error) {
          // Whoever may not ask for it may still use it.
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
  session: S3Session,
  key: string,
  options?: RequestOptions,
): Promise<S3Head | null> {
  const { signal } = options ?? {};
  const Key = session.at(key);
  return session.run({
    action: `looking for ${quote(key)} in ${session.url}`,
    signal,
    attempt: async ({ sdk, client, until }) => {
      try {
        const command = new sdk.HeadObjectCommand({ Bucket: session.bucket, Key });
        const answer = await client.send(command, until);
        return {
          info: infoOf(key, answer.ContentLength ?? 0, answer),
          metadata: answer.Metadata ?? {},
        };
      } catch (error) {
        if (isS3Error(error, 404)) return null;
        throw error;
      }
    },
  });
}

/** {@link Bucket.get}: a body that breaks off is gone on with where it broke. */
export async function getObject(
  session: S3Session,
  key: string,
  options?: GetOptions,
): Promise<StoredObject | null> {
  const { signal, range } = options ?? {};
  const asked = clipRange(range, Number.MAX_SAFE_INTEGER);
  // S3 knows no empty range.
  if (asked.start === asked.end) return nothingOf(await headObject(session, key, options));
  const found = await request(session, key, range === undefined ? null : asked, { signal });
  if (found === 'missing') return null;
  if (typeof found === 'string') return nothingOf(await headObject(session, key, options));
  const { info, stream } = found;
  const action = `reading ${quote(key)} in ${session.url}`;
  const body = resumedBody({
    action,
    range: clipRange(range, info.size),
    first: stream,
    signal,
    reopen: async (rest) => {
      const again = await request(session, key, rest, { signal, etag: info.etag });
      if (typeof again !== 'string') return again.stream;
      return `the object was ${again === 'changed' ? 'replaced' : 'deleted'}`;
    },
  });
  return { info, body };
}

interface Found {
  readonly info: ObjectInfo;
  readonly stream: Readable;
}

/**
 * @param etag reads only this version of the object, else `changed`
 * @returns `beyond` when the range begins after the object's end
 */
async function request(
  session: S3Session,
  key: string,
  range: ByteRange | null,
  { signal, etag }: { signal: AbortSignal | undefined; etag?: string },
): Promise<Found | 'missing' | 'beyond' | 'changed'> {
  const Key = session.at(key);
  return session.run<Found | 'missing' | 'beyond' | 'changed'>({
    action: `reading ${quote(key)} in ${session.url}`,
    signal,
    attempt: async ({ sdk, client, until }) => {
      try {
        const command = new sdk.GetObjectCommand({
          Bucket: session.bucket,
          Key,
          ...(range === null ? {} : { Range: rangeHeader(range) }),
          ...(etag === undefined ? {} : { IfMatch: etag }),
        });
        const answer = await client.send(command, until);
        const total = /\/(\d+)$/.exec(answer.ContentRange ?? '')?.[1];
        const size = total === undefined ? (answer.ContentLength ?? 0) : Number(total);
        return { info: infoOf(key, size, answer), stream: answer.Body as Readable };
      } catch (error) {
        if (isS3Error(error, 'NoSuchKey')) return 'missing';
        if (isS3Error(error, 'InvalidRange', 416)) return 'beyond';
        if (isS3Error(error, 412)) return 'changed';
        throw error;
      }
    },
  });
}

function rangeHeader({ start, end }: ByteRange): string {
  return `bytes=${start}-${end === Number.MAX_SAFE_INTEGER ? '' : end - 1}`;
}

function nothingOf(head: S3Head | null): StoredObject | null {
  return head === null ? null : { info: head.info, body: emptyBody };
}

function infoOf(key: string, size: number, described: Described): ObjectInfo {
  return {
    key,
    size,
    modified: wholeSecond(described.LastModified),
    etag: described.ETag ?? '',
  };
}

/** A listing tells the time more exactly than a HEAD does, where one and the same is wanted. */
export function wholeSecond(time: Date | undefined): Date {
  return new Date(Math.floor((time?.getTime() ?? 0) / 1000) * 1000);
}
