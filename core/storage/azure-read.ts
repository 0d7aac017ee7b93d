import type { BlobDownloadResponseParsed } from '@azure/storage-blob';
import type { Readable } from 'node:stream';
import { quote } from '../errors.ts';
import { isAzureError } from './azure-errors.ts';
import type { AzureSession } from './azure-session.ts';
import type { GetOptions, ObjectInfo, RequestOptions, StoredObject } from './bucket.ts';
import { assertPrefix } from './keys.ts';
import { listPages, type ListedPage } from './paged-list.ts';
import { clipRange, type ByteRange } from './range.ts';
import { emptyBody, resumedBody } from './resumed-body.ts';

/** Blobs on a page of a listing; Azure's own limit. */
const pageSize = 5000;

/** A blob, with what the driver itself has written beside it. */
export interface DescribedBlob {
  readonly info: ObjectInfo;
  readonly metadata: Readonly<Record<string, string>>;
}

/** {@link Bucket.head}, with the blob's metadata. */
export async function headBlob(
  session: AzureSession,
  key: string,
  options?: RequestOptions,
): Promise<DescribedBlob | null> {
  const { signal } = options ?? {};
  const name = session.at(key);
  return session.run({
    action: `looking for ${quote(key)} in ${session.url}`,
    signal,
    attempt: async ({ container }) => {
      try {
        const found = await container.getBlobClient(name).getProperties(abortable(signal));
        return {
          info: infoOf(key, found.contentLength, found.lastModified, found.etag),
          metadata: found.metadata ?? {},
        };
      } catch (error) {
        if (isAzureError(error, 'BlobNotFound')) return null;
        throw error;
      }
    },
  });
}

/** {@link Bucket.get}: a body that breaks off is gone on with where it broke. */
export async function getBlob(
  session: AzureSession,
  key: string,
  options: GetOptions = {},
): Promise<StoredObject | null> {
  const { signal, range } = options;
  const asked = clipRange(range, Number.MAX_SAFE_INTEGER);
  const found =
    asked.start === asked.end ? 'beyond' : await download(session, key, asked, { signal });
  if (found === 'missing') return null;
  // Azure knows no empty range, and of an empty blob no range at all.
  if (typeof found === 'string') return nothingOf(await headBlob(session, key, options));
  const { info, stream } = found;
  const action = `reading ${quote(key)} in ${session.url}`;
  const body = resumedBody({
    action,
    range: clipRange(range, info.size),
    first: stream,
    signal,
    reopen: async (rest) => {
      const again = await download(session, key, rest, { signal, etag: info.etag });
      if (typeof again !== 'string') return again.stream;
      return `the blob was ${again === 'changed' ? 'replaced' : 'deleted'}`;
    },
  });
  return { info, body };
}

interface Found {
  readonly info: ObjectInfo;
  readonly stream: Readable;
}

/**
 * @param etag reads only this version of the blob, else `changed`
 * @returns `beyond` when the range begins after the blob's end
 */
async function download(
  session: AzureSession,
  key: string,
  { start, end }: ByteRange,
  { signal, etag }: { signal: AbortSignal | undefined; etag?: string },
): Promise<Found | 'missing' | 'beyond' | 'changed'> {
  const name = session.at(key);
  const count = end === Number.MAX_SAFE_INTEGER ? undefined : end - start;
  return session.run<Found | 'missing' | 'beyond' | 'changed'>({
    action: `reading ${quote(key)} in ${session.url}`,
    signal,
    attempt: async ({ container }) => {
      try {
        const answer = await container.getBlobClient(name).download(start, count, {
          ...abortable(signal),
          ...(etag === undefined ? {} : { conditions: { ifMatch: etag } }),
          maxRetryRequests: 0,
        });
        const { lastModified } = answer;
        const info = infoOf(key, wholeSize(answer), lastModified, answer.etag);
        return { info, stream: answer.readableStreamBody as Readable };
      } catch (error) {
        if (isAzureError(error, 'BlobNotFound')) return 'missing';
        if (isAzureError(error, 'InvalidRange', 416)) return 'beyond';
        if (etag !== undefined && isAzureError(error, 412)) return 'changed';
        throw error;
      }
    },
  });
}

/** {@link Bucket.list}. */
export async function* listBlobs(
  session: AzureSession,
  prefix: string,
  { signal }: RequestOptions = {},
): AsyncIterable<ObjectInfo> {
  assertPrefix(prefix);
  const { prefix: root } = session.location;
  const action = `listing ${quote(prefix)} in ${session.url}`;
  const page = async (token: string | undefined): Promise<ListedPage> =>
    session.run({
      action,
      signal,
      attempt: async ({ container }) => {
        const listing = container
          .listBlobsFlat({ prefix: root + prefix, ...abortable(signal) })
          .byPage({
            maxPageSize: pageSize,
            ...(token === undefined ? {} : { continuationToken: token }),
          });
        const answer = await listing.next();
        const found = answer.done === true ? undefined : answer.value;
        const objects = (found?.segment.blobItems ?? []).map(({ name, properties }) => {
          const { contentLength, lastModified, etag } = properties;
          return infoOf(name.slice(root.length), contentLength, lastModified, etag);
        });
        // An empty token is none.
        const next = found?.continuationToken === '' ? undefined : found?.continuationToken;
        return { objects, next };
      },
    });
  yield* listPages({ action, signal, page });
}

/** The SDK's options take no `undefined`. */
export function abortable(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

function wholeSize({ contentRange, contentLength = 0 }: BlobDownloadResponseParsed): number {
  const total = /\/(\d+)$/.exec(contentRange ?? '')?.[1];
  return total === undefined ? contentLength : Number(total);
}

function nothingOf(found: DescribedBlob | null): StoredObject | null {
  return found === null ? null : { info: found.info, body: emptyBody };
}

/** A listing gives an etag without the quotes that a header has. */
function infoOf(
  key: string,
  size: number | undefined,
  modified: Date | undefined,
  etag: string | undefined,
): ObjectInfo {
  return {
    key,
    size: size ?? 0,
    modified: modified ?? new Date(0),
    etag: `"${(etag ?? '').replaceAll('"', '')}"`,
  };
}
