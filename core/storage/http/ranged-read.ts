import type { Readable } from 'node:stream';
import { NicheError } from '../../errors.ts';
import type { GetOptions, ObjectInfo, StoredObject } from '../bucket.ts';
import { clipRange, type ByteRange } from '../range.ts';
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
  readonly request: (range: ByteRange, etag?: string) => Promise<ObjectAnswer | 'gone' | 'beyond'>;
  readonly head: () => Promise<ObjectInfo | null>;
}

/** A response to a request for an object. */
export interface ObjectAnswer extends Pick<ObjectInfo, 'etag' | 'modified'> {
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
  const asked = clipRange(range, Number.MAX_SAFE_INTEGER);
  const answer = asked.start === asked.end ? 'beyond' : await request(asked);
  if (answer === 'gone') return null;
  // HTTP has no empty range, and an empty object has no range at all.
  if (answer === 'beyond') {
    const info = await head();
    return info === null ? null : { info, body: emptyBody };
  }
  const { etag, modified, stream } = answer;
  const info = { key, size: wholeSize(answer, asked.start, action), modified, etag };
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
 * Returns the object's size from a response whose body has to begin at byte number `start`.
 *
 * @throws NicheError `storage-unavailable` where it does not state the size, as a body that was cut
 *   would pass for a whole one; or where it begins elsewhere, as from a server without ranges
 */
function wholeSize(
  { contentLength, contentRange, stream }: ObjectAnswer,
  start: number,
  action: string,
): number {
  const [, first, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(contentRange ?? '') ?? [];
  const begins = contentRange === undefined ? 0 : Number(first);
  const size = contentRange === undefined ? contentLength : Number(total);
  if (begins === start && size !== undefined) return size;
  stream.destroy();
  const why =
    begins === start
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
export function knownSize(contentLength: number | undefined): number {
  if (contentLength !== undefined) return contentLength;
  throw new Error('the response does not state the size of the object');
}
