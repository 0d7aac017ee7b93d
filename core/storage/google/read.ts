import * as z from 'zod';
import { mapConcurrent } from '../../util/concurrency.ts';
import { quote } from '../../errors.ts';
import type { GetOptions, ListedObject, RequestOptions, StoredObject } from '../bucket.ts';
import { explainGoogleError, isGoogleError } from './errors.ts';
import { readJson } from '../../util/google-rest.ts';
import type { GoogleBucketClient } from './client.ts';
import { assertPrefix } from '../keys.ts';
import { listPages, type ListedPage } from '../http/paged-list.ts';
import { rangeHeader } from '../range.ts';
import { openObject, type ObjectResponse } from '../http/ranged-read.ts';
import { discardBody, type HttpResponse } from '../../util/transport.ts';

/** Google's limit on the objects of one page. */
const pageSize = 1000;
const deletesAtOnce = 16;

/** An object with its metadata. */
export interface DescribedObject {
  readonly info: ListedObject;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Google sends 64-bit numbers as strings. */
const resource = z.looseObject({
  name: z.string(),
  size: z.coerce.number().default(0),
  updated: z.iso.datetime({ offset: true }),
  generation: z.coerce.string(),
  metadata: z.record(z.string(), z.string()).default({}),
});

const page = z.looseObject({
  items: z.array(resource).default([]),
  nextPageToken: z.string().optional(),
});

/** Returns the path of an object in the JSON API. */
export function objectPath({ location }: GoogleBucketClient, name: string): string {
  return `${bucketPath(location.bucket)}/o/${encodeURIComponent(name)}`;
}

export function bucketPath(bucket: string): string {
  return `/storage/v1/b/${encodeURIComponent(bucket)}`;
}

/** {@link Bucket.head}, with the object's metadata. */
export async function headObject(
  client: GoogleBucketClient,
  key: string,
  options?: RequestOptions,
): Promise<DescribedObject | null> {
  const { signal } = options ?? {};
  const name = client.objectName(key);
  const action = `checking ${quote(key)} in ${client.url}`;
  const found = await client.run<DescribedObject | Error>({
    action,
    signal,
    attempt: async (send) => {
      try {
        const fields = 'name,size,updated,generation,metadata';
        const response = await send({
          method: 'GET',
          path: objectPath(client, name),
          query: { fields },
        });
        return describe(client, resource.parse(await readJson(response)));
      } catch (error) {
        if (isGoogleError(error, 404)) return error as Error;
        throw error;
      }
    },
  });
  return notMissing(client, found, action, signal);
}

/** {@link Bucket.get} */
export async function getObject(
  client: GoogleBucketClient,
  key: string,
  options: GetOptions = {},
): Promise<StoredObject | null> {
  const { signal } = options;
  const name = client.objectName(key);
  const action = `reading ${quote(key)} in ${client.url}`;
  return openObject(
    {
      key,
      action,
      head: async () => (await headObject(client, key, options))?.info ?? null,
      async request(bytes, generation) {
        const range = rangeHeader(bytes);
        const found = await client.run<ObjectResponse | 'beyond' | Error>({
          action,
          signal,
          attempt: async (send) => {
            try {
              const response = await send({
                method: 'GET',
                path: objectPath(client, name),
                query: { alt: 'media', generation },
                headers: range === undefined ? {} : { range },
              });
              return toObjectResponse(response);
            } catch (error) {
              if (isGoogleError(error, 416)) return 'beyond';
              if (isGoogleError(error, 404)) return error as Error;
              throw error;
            }
          },
        });
        return (await notMissing(client, found, action, signal)) ?? 'gone';
      },
    },
    options,
  );
}

/** {@link Bucket.list}. */
export async function* listObjects(
  client: GoogleBucketClient,
  prefix: string,
  { signal }: RequestOptions = {},
): AsyncIterable<ListedObject> {
  assertPrefix(prefix);
  const { bucket, prefix: root } = client.location;
  const action = `listing ${quote(prefix)} in ${client.url}`;
  const onePage = async (pageToken: string | undefined): Promise<ListedPage> =>
    client.run({
      action,
      signal,
      attempt: async (send) => {
        const response = await send({
          method: 'GET',
          path: `${bucketPath(bucket)}/o`,
          query: {
            prefix: root + prefix,
            maxResults: String(pageSize),
            fields: 'nextPageToken,items(name,size,updated,generation)',
            pageToken,
          },
        });
        const { items, nextPageToken } = page.parse(await readJson(response));
        // An empty token means the last page.
        const next = nextPageToken === '' ? undefined : nextPageToken;
        return { objects: items.map((item) => describe(client, item).info), next };
      },
    });
  yield* listPages({ action, signal, page: onePage });
}

/** {@link Bucket.delete}: one request per object, which Google does not charge for. */
export async function deleteObjects(
  client: GoogleBucketClient,
  keys: readonly string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const names = keys.map((key) => client.objectName(key));
  const action = `deleting in ${client.url}`;
  const results = await mapConcurrent(names, deletesAtOnce, (name) =>
    client.run({
      action,
      signal,
      attempt: async (send) => {
        try {
          await discardBody(await send({ method: 'DELETE', path: objectPath(client, name) }));
          return null;
        } catch (error) {
          if (isGoogleError(error, 404)) return error as Error;
          throw error;
        }
      },
    }),
  );
  const missing = results.find((result) => result !== null);
  if (missing !== undefined) await notMissing(client, missing, action, signal);
}

/** Clients whose bucket is known to exist. */
const seenBuckets = new WeakSet<GoogleBucketClient>();

/**
 * Distinguishes a missing object from a missing bucket, which has the same status.
 *
 * @returns null for a missing object of an existing bucket
 * @throws NicheError `storage-unavailable` when there is no bucket
 */
async function notMissing<T>(
  client: GoogleBucketClient,
  found: T,
  action: string,
  signal: AbortSignal | undefined,
): Promise<Exclude<T, Error> | null> {
  if (!(found instanceof Error)) return found as Exclude<T, Error>;
  const isClear = /no such object/i.test(found.message);
  if (isClear || seenBuckets.has(client)) return null;
  const isThere = await client.run({
    action,
    signal,
    attempt: async (send) => {
      const path = `${bucketPath(client.location.bucket)}/o`;
      const query = { maxResults: '1', fields: 'nextPageToken' };
      // Credentials that may not list may still read.
      const response = await send({ method: 'GET', path, query, accept: [401, 403, 404] });
      await discardBody(response);
      return response.status !== 404;
    },
  });
  if (!isThere) throw explainGoogleError(found, action).error;
  seenBuckets.add(client);
  return null;
}

function describe(
  { location }: GoogleBucketClient,
  { name, size, updated, generation, metadata }: z.infer<typeof resource>,
): DescribedObject {
  const key = name.slice(location.prefix.length);
  return { info: { key, size, modified: toWholeSecond(updated), etag: generation }, metadata };
}

function toObjectResponse({ headers, body }: HttpResponse): ObjectResponse {
  const length = headers['content-length'];
  return {
    contentLength: length === undefined ? undefined : Number(length),
    contentRange: headers['content-range'],
    modified: toWholeSecond(headers['last-modified'] ?? ''),
    etag: headers['x-goog-generation'] ?? '',
    stream: body,
  };
}

/** Drops fractions of a second, which a listing has and a header lacks. Both must agree. */
function toWholeSecond(text: string): Date {
  const ms = Date.parse(text);
  return new Date(Number.isFinite(ms) ? Math.floor(ms / 1000) * 1000 : 0);
}
