import type { Readable } from 'node:stream';
import { NicheError, messageOf, quote } from '../errors.ts';
import { throwIfAborted } from './aborted.ts';
import type { GetOptions, ObjectInfo, RequestOptions, StoredObject } from './bucket.ts';
import { clipRange, type ByteRange } from './range.ts';
import { isS3Error } from './s3-errors.ts';
import type { S3Session } from './s3-session.ts';

/** Times that a body is asked for again although not a byte more has come. */
const maxFruitlessResumptions = 3;

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
  if (found === 'beyond') return nothingOf(await headObject(session, key, options));
  const { info, stream } = found;
  const clipped = clipRange(range, info.size);
  return { info, body: readBody(session, info, clipped, stream, signal) };
}

interface Found {
  readonly info: ObjectInfo;
  readonly stream: Readable;
}

/**
 * @param etag reads on only in this version of the object
 * @returns `beyond` when the range begins after the object's end
 */
async function request(
  session: S3Session,
  key: string,
  range: ByteRange | null,
  { signal, etag }: { signal: AbortSignal | undefined; etag?: string },
): Promise<Found | 'missing' | 'beyond'> {
  const Key = session.at(key);
  return session.run<Found | 'missing' | 'beyond'>({
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
        throw error;
      }
    },
  });
}

/** No generator, as the `return` of one that was never begun would leave the connection open. */
function readBody(
  session: S3Session,
  info: ObjectInfo,
  { start, end }: ByteRange,
  first: Readable,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  const action = `reading ${quote(info.key)} in ${session.url}`;
  let stream = first;
  let chunks = iterate(stream);
  let position = start;
  let fruitless = 0;
  let isDone = false;

  function finish(): IteratorReturnResult<undefined> {
    isDone = true;
    // What is destroyed early says so once more; nobody listens any longer.
    stream.on('error', () => undefined);
    stream.destroy();
    return { done: true, value: undefined };
  }

  /** @returns the next bytes; null when the body broke off */
  async function readChunk(): Promise<Uint8Array | null> {
    try {
      const next = await chunks.next();
      return next.done === true ? null : next.value;
    } catch (error) {
      throwIfAborted(signal, action);
      if (fruitless >= maxFruitlessResumptions) throw brokenOff(messageOf(error), error);
      return null;
    }
  }

  async function resume(): Promise<void> {
    if (fruitless >= maxFruitlessResumptions) throw brokenOff('the connection was closed');
    fruitless += 1;
    stream.on('error', () => undefined);
    stream.destroy();
    const range = { start: position, end };
    const found = await request(session, info.key, range, { signal, etag: info.etag }).catch(
      (error: unknown) => {
        const { cause } = error as { cause?: unknown };
        if (isS3Error(cause, 412)) throw brokenOff('the object was replaced meanwhile', error);
        throw error;
      },
    );
    if (typeof found === 'string') throw brokenOff('the object was deleted meanwhile');
    stream = found.stream;
    chunks = iterate(stream);
  }

  function brokenOff(why: string, cause?: unknown): NicheError {
    return new NicheError(
      'storage-unavailable',
      `${action} failed: its body broke off after ${position - start} of ${end - start} bytes: ${why}`,
      { cause },
    );
  }

  const iterator: AsyncIterator<Uint8Array, undefined, undefined> = {
    async next() {
      try {
        while (!isDone && position < end) {
          throwIfAborted(signal, action);
          const chunk = await readChunk();
          if (chunk !== null && chunk.length > 0) {
            fruitless = 0;
            // More than was asked for is not the object's.
            const wanted = chunk.subarray(0, end - position);
            position += wanted.length;
            return { done: false, value: wanted };
          }
          if (chunk === null) await resume();
        }
        return finish();
      } catch (error) {
        finish();
        throw error;
      }
    },
    return: () => Promise.resolve(finish()),
  };
  return { [Symbol.asyncIterator]: () => iterator };
}

function iterate(stream: Readable): AsyncIterator<Uint8Array> {
  return stream[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
}

function rangeHeader({ start, end }: ByteRange): string {
  return `bytes=${start}-${end === Number.MAX_SAFE_INTEGER ? '' : end - 1}`;
}

function nothingOf(head: S3Head | null): StoredObject | null {
  if (head === null) return null;
  const end = { done: true, value: undefined } as const;
  const iterator: AsyncIterator<Uint8Array> = { next: () => Promise.resolve(end) };
  return { info: head.info, body: { [Symbol.asyncIterator]: () => iterator } };
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
