import type { Readable } from 'node:stream';
import { NicheError } from '../../errors.ts';
import type { GetOptions, ObjectInfo, StoredObject } from '../bucket.ts';
import { clipRange, parseContentRange, type ByteRange } from '../range.ts';
import { emptyBody, resumingBody } from './resuming-body.ts';

/** Requests one object of a storage behind HTTP. */
export interface ObjectSource {
  readonly key: string;
  /** What is read, where, for errors: `reading "nar/…" in azure://…`. */
  readonly action: string;
  /**
   * @param etag reads only this version of the object
   * @returns `gone` when there is none, `beyond` when the range begins after the object's end
   */
  readonly request: (
    range: ByteRange,
    etag?: string,
  ) => Promise<ObjectResponse | 'gone' | 'beyond'>;
  readonly head: () => Promise<ObjectInfo | null>;
}

/** A response to a request for an object. */
export interface ObjectResponse extends Pick<ObjectInfo, 'etag' | 'modified'> {
  readonly contentLength: number | undefined;
  /** Absent in a response with the whole object. */
  readonly contentRange: string | undefined;
  readonly stream: Readable;
}

/**
 * Implements {@link Bucket.get}. A body that breaks off is resumed where it broke, if the object is
 * still the same.
 *
 * @throws NicheError `storage-unavailable` for a response without a size or with other bytes; what
 *   `request` and `head` throw
 */
export async function openObject(
  { key, action, request, head }: ObjectSource,
  { range, signal }: GetOptions = {},
): Promise<StoredObject | null> {
  const requested = clipRange(range, Number.MAX_SAFE_INTEGER);
  const response = requested.start === requested.end ? 'beyond' : await request(requested);
  if (response === 'gone') return null;
  // HTTP has no empty range, and an empty object has no range at all.
  if (response === 'beyond') return emptyObject(await head(), requested, action);
  const { etag, modified, stream } = response;
  const info = { key, size: wholeSize(response, requested.start, action), modified, etag };
  const body = resumingBody({
    action,
    range: clipRange(range, info.size),
    first: stream,
    signal,
    reopen: async (rest) => {
      const again = await request(rest, etag);
      if (typeof again === 'string') return null;
      const size = wholeSize(again, rest.start, action);
      if (again.etag === etag && size === info.size) return again.stream;
      // Not every server honours the condition.
      again.stream.destroy();
      return null;
    },
  });
  return { info, body };
}

/**
 * Returns an object without the bytes that the server did not have.
 *
 * @param info from a later request; null for a missing object
 * @throws NicheError `storage-unavailable` where the object has the requested bytes after all
 */
export function emptyObject(
  info: ObjectInfo | null,
  requested: ByteRange,
  action: string,
): StoredObject | null {
  if (info === null) return null;
  const hasBytes = requested.start < Math.min(requested.end, info.size ?? 0);
  if (!hasBytes) return { info, body: emptyBody };
  throw new NicheError(
    'storage-unavailable',
    `${action} failed: the server refused a range within the object`,
    { hint: 'try again' },
  );
}

/**
 * Returns the object's size from a response whose body has to begin at byte number `start`.
 *
 * @throws NicheError `storage-unavailable` where it does not state the size, as a body that was cut
 *   would pass for a whole one; or where it begins elsewhere, as from a server without ranges
 */
function wholeSize(
  { contentLength, contentRange, stream }: ObjectResponse,
  start: number,
  action: string,
): number {
  const part = parseContentRange(contentRange);
  const first = contentRange === undefined ? 0 : part?.first;
  const size = contentRange === undefined ? contentLength : part?.total;
  if (first === start && size !== undefined) return size;
  stream.destroy();
  const why =
    first === start
      ? 'the response does not state the size of the object'
      : `expected the bytes from ${start} on, got ${contentRange ?? 'the whole object'}`;
  throw new NicheError('storage-unavailable', `${action} failed: ${why}`, {
    hint: 'check whether a proxy changes the responses of the storage',
  });
}

/**
 * Returns the object's size from the response to a HEAD.
 *
 * @throws Error where it does not state it
 */
export function requireSize(contentLength: number | undefined): number {
  if (contentLength !== undefined) return contentLength;
  throw new Error('the response does not state the size of the object');
}
