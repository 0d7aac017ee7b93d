import { NicheError, quote } from '../../errors.ts';
import type { ObjectInfo, RequestOptions } from '../bucket.ts';
import { assertPrefix } from '../keys.ts';
import { listPages, type ListedPage } from '../http/paged-list.ts';
import { isS3Error } from './errors.ts';
import { wholeSecond } from './read.ts';
import type { S3Session } from './client.ts';

/** The most that one request deletes. */
const deletesAtOnce = 1000;

/** {@link Bucket.list}. */
export async function* listObjects(
  session: S3Session,
  prefix: string,
  { signal }: RequestOptions = {},
): AsyncGenerator<ObjectInfo, void, undefined> {
  assertPrefix(prefix);
  const { prefix: root } = session.location;
  const action = `listing ${quote(prefix)} in ${session.url}`;
  const page = async (token: string | undefined): Promise<ListedPage> =>
    session.run({
      action,
      signal,
      attempt: async ({ sdk, client, until }) => {
        const command = new sdk.ListObjectsV2Command({
          Bucket: session.bucket,
          Prefix: root + prefix,
          ...(token === undefined ? {} : { ContinuationToken: token }),
        });
        const answer = await client.send(command, until);
        const { Contents = [], IsTruncated, NextContinuationToken = '' } = answer;
        // To the SDK any page is a listing, as one that a proxy shows in the storage's stead.
        if (IsTruncated === undefined) throw new Error('the answer is no listing');
        return {
          objects: Contents.map(({ Key = '', Size, LastModified, ETag }) => ({
            key: Key.slice(root.length),
            size: Size ?? 0,
            modified: wholeSecond(LastModified),
            etag: ETag ?? '',
          })),
          next: IsTruncated ? NextContinuationToken : undefined,
        };
      },
    });
  yield* listPages({ action, signal, page });
}

/** {@link Bucket.delete}, a thousand keys a request. */
export async function deleteObjects(
  session: S3Session,
  keys: readonly string[],
  options?: RequestOptions,
): Promise<void> {
  const { signal } = options ?? {};
  const all = keys.map((key) => session.at(key));
  for (let next = 0; next < all.length; next += deletesAtOnce) {
    let left = all.slice(next, next + deletesAtOnce);
    await session.run({
      action: `deleting ${describe(left, session.location.prefix)} in ${session.url}`,
      signal,
      attempt: async ({ sdk, client, until }) => {
        const command = new sdk.DeleteObjectsCommand({
          Bucket: session.bucket,
          Delete: { Objects: left.map((Key) => ({ Key })), Quiet: true },
        });
        const { Errors = [] } = await client.send(command, until);
        const failed = Errors.filter(({ Code }) => Code !== 'NoSuchKey');
        const [first] = failed;
        if (first === undefined) return;
        // The rest is gone; a retry is for these alone.
        left = failed.flatMap(({ Key }) => (Key === undefined ? [] : [Key]));
        throw Object.assign(new Error(first.Message), { name: first.Code ?? 'InternalError' });
      },
    });
  }
}

function describe(keys: readonly string[], prefix: string): string {
  const first = quote((keys[0] ?? '').slice(prefix.length));
  return keys.length === 1 ? first : `${first} and ${keys.length - 1} more`;
}

/** {@link Bucket.sweepUploads}. */
export async function sweepS3Uploads(
  session: S3Session,
  prefix: string,
  olderThan: Date,
): Promise<number> {
  const action = `removing unfinished uploads in ${session.url}`;
  let removed = 0;
  let marker: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } = {};
  for (;;) {
    const page = await session.run({
      action,
      attempt: async ({ sdk, client }) =>
        client.send(
          new sdk.ListMultipartUploadsCommand({
            Bucket: session.bucket,
            Prefix: session.location.prefix + prefix,
            ...marker,
          }),
        ),
    });
    for (const { Key = '', UploadId, Initiated } of page.Uploads ?? []) {
      if (UploadId === undefined || Initiated === undefined || Initiated >= olderThan) continue;
      if (await isStillWritten(session, Key, UploadId, olderThan)) continue;
      await abortUpload(session, Key, UploadId, action);
      removed += 1;
    }
    const next = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
    if (page.IsTruncated !== true) return removed;
    if (next.KeyMarker === marker.KeyMarker && next.UploadIdMarker === marker.UploadIdMarker) {
      throw new NicheError(
        'storage-unavailable',
        `${action} failed: the storage says that there is more and not where it goes on`,
      );
    }
    marker = next;
  }
}

/** Whether a part came after `time`. */
async function isStillWritten(
  session: S3Session,
  Key: string,
  UploadId: string,
  time: Date,
): Promise<boolean> {
  const parts = await listParts(session, Key, UploadId);
  return parts?.some(({ modified }) => modified >= time) ?? false;
}

export interface S3Part {
  readonly number: number;
  readonly size: number;
  readonly etag: string;
  /** Base64, where the storage keeps it. */
  readonly sha256: string | undefined;
  readonly modified: Date;
}

/** The parts that a storage has of an upload, in order; null when it has no such upload. */
export async function listParts(
  session: S3Session,
  Key: string,
  UploadId: string,
  signal?: AbortSignal,
): Promise<S3Part[] | null> {
  const parts: S3Part[] = [];
  for (;;) {
    const last = parts.at(-1)?.number;
    const page = await session.run({
      action: `looking for what is stored of ${quote(Key)} in ${session.url}`,
      signal,
      attempt: async ({ sdk, client, until }) => {
        const command = new sdk.ListPartsCommand({
          Bucket: session.bucket,
          Key,
          UploadId,
          ...(last === undefined ? {} : { PartNumberMarker: String(last) }),
        });
        try {
          return await client.send(command, until);
        } catch (error) {
          if (isS3Error(error, 'NoSuchUpload')) return null;
          throw error;
        }
      },
    });
    if (page === null) return null;
    for (const part of page.Parts ?? []) {
      parts.push({
        number: part.PartNumber ?? 0,
        size: part.Size ?? 0,
        etag: part.ETag ?? '',
        sha256: part.ChecksumSHA256,
        modified: part.LastModified ?? new Date(0),
      });
    }
    // Where a page brings nothing new there is no more to come.
    if (page.IsTruncated !== true || parts.at(-1)?.number === last) return parts;
  }
}

export async function abortUpload(
  session: S3Session,
  Key: string,
  UploadId: string,
  action: string,
): Promise<void> {
  await session.run({
    action,
    attempt: async ({ sdk, client }) => {
      try {
        await client.send(
          new sdk.AbortMultipartUploadCommand({ Bucket: session.bucket, Key, UploadId }),
        );
      } catch (error) {
        if (!isS3Error(error, 'NoSuchUpload', 404)) throw error;
      }
    },
  });
}
