import { NicheError, quote } from '../../errors.ts';
import type { ListedObject, RequestOptions } from '../bucket.ts';
import { assertPrefix } from '../keys.ts';
import { listPages, type ListedPage } from '../http/paged-list.ts';
import { isS3Error } from './errors.ts';
import { toWholeSecond } from './read.ts';
import type { S3BucketClient } from './client.ts';

/** S3's limit on the keys of one deletion. */
const deletesAtOnce = 1000;

/** {@link Bucket.list}. */
export async function* listObjects(
  client: S3BucketClient,
  prefix: string,
  { signal }: RequestOptions = {},
): AsyncGenerator<ListedObject, void, undefined> {
  assertPrefix(prefix);
  const { prefix: root } = client.location;
  const action = `listing ${quote(prefix)} in ${client.url}`;
  const page = async (token: string | undefined): Promise<ListedPage> =>
    client.run({
      action,
      signal,
      attempt: async ({ sdk, s3, sendOptions }) => {
        const command = new sdk.ListObjectsV2Command({
          Bucket: client.bucket,
          Prefix: root + prefix,
          ...(token === undefined ? {} : { ContinuationToken: token }),
        });
        const response = await s3.send(command, sendOptions);
        const { Contents = [], IsTruncated, NextContinuationToken = '' } = response;
        // The SDK accepts any page as a listing, even an error page of a proxy.
        if (IsTruncated === undefined) throw new Error('the response is not a listing');
        return {
          objects: Contents.map(({ Key = '', Size, LastModified, ETag }) => ({
            key: Key.slice(root.length),
            size: Size ?? 0,
            modified: toWholeSecond(LastModified),
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
  client: S3BucketClient,
  keys: readonly string[],
  options?: RequestOptions,
): Promise<void> {
  const { signal } = options ?? {};
  const all = keys.map((key) => client.fullKey(key));
  for (let next = 0; next < all.length; next += deletesAtOnce) {
    let left = all.slice(next, next + deletesAtOnce);
    await client.run({
      action: `deleting ${describe(left, client.location.prefix)} in ${client.url}`,
      signal,
      attempt: async ({ sdk, s3, sendOptions }) => {
        const command = new sdk.DeleteObjectsCommand({
          Bucket: client.bucket,
          Delete: { Objects: left.map((Key) => ({ Key })), Quiet: true },
        });
        const { Errors = [] } = await s3.send(command, sendOptions);
        const failed = Errors.filter(({ Code }) => Code !== 'NoSuchKey');
        const [first] = failed;
        if (first === undefined) return;
        // The other keys are deleted; a retry is for these only.
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
  client: S3BucketClient,
  prefix: string,
  olderThan: Date,
): Promise<number> {
  const action = `removing unfinished uploads in ${client.url}`;
  let removed = 0;
  let marker: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } = {};
  for (;;) {
    const page = await client.run({
      action,
      attempt: async ({ sdk, s3 }) =>
        s3.send(
          new sdk.ListMultipartUploadsCommand({
            Bucket: client.bucket,
            Prefix: client.location.prefix + prefix,
            ...marker,
          }),
        ),
    });
    for (const { Key = '', UploadId, Initiated } of page.Uploads ?? []) {
      if (UploadId === undefined || Initiated === undefined || Initiated >= olderThan) continue;
      if (await hasRecentPart(client, Key, UploadId, olderThan)) continue;
      await abortUpload(client, Key, UploadId, action);
      removed += 1;
    }
    const next = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
    if (page.IsTruncated !== true) return removed;
    if (next.KeyMarker === marker.KeyMarker && next.UploadIdMarker === marker.UploadIdMarker) {
      throw new NicheError(
        'storage-unavailable',
        `${action} failed: the storage reports more uploads, but not where they continue`,
      );
    }
    marker = next;
  }
}

/** Whether a part was stored after `time`. */
async function hasRecentPart(
  client: S3BucketClient,
  Key: string,
  UploadId: string,
  time: Date,
): Promise<boolean> {
  const parts = await listParts(client, Key, UploadId);
  return parts?.some(({ modified }) => modified >= time) ?? false;
}

export interface S3Part {
  readonly number: number;
  readonly size: number;
  readonly etag: string;
  /** Base64; undefined where the storage does not keep it. */
  readonly sha256: string | undefined;
  readonly modified: Date;
}

/** Returns the stored parts of an upload in order; null when there is no such upload. */
export async function listParts(
  client: S3BucketClient,
  Key: string,
  UploadId: string,
  signal?: AbortSignal,
): Promise<S3Part[] | null> {
  const parts: S3Part[] = [];
  for (;;) {
    const last = parts.at(-1)?.number;
    const page = await client.run({
      action: `listing the stored parts of ${quote(Key)} in ${client.url}`,
      signal,
      attempt: async ({ sdk, s3, sendOptions }) => {
        const command = new sdk.ListPartsCommand({
          Bucket: client.bucket,
          Key,
          UploadId,
          ...(last === undefined ? {} : { PartNumberMarker: String(last) }),
        });
        try {
          return await s3.send(command, sendOptions);
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
    // A page without new parts is the last one, whatever it states.
    if (page.IsTruncated !== true || parts.at(-1)?.number === last) return parts;
  }
}

export async function abortUpload(
  client: S3BucketClient,
  Key: string,
  UploadId: string,
  action: string,
): Promise<void> {
  await client.run({
    action,
    attempt: async ({ sdk, s3 }) => {
      try {
        await s3.send(
          new sdk.AbortMultipartUploadCommand({ Bucket: client.bucket, Key, UploadId }),
        );
      } catch (error) {
        if (!isS3Error(error, 'NoSuchUpload', 404)) throw error;
      }
    },
  });
}
