import type { Readable } from 'node:stream';
import { NicheError } from '../../errors.ts';
import type { GetOptions, ObjectInfo, StoredObject } from '../bucket.ts';
import { clipRange, type ByteRange } from '../range.ts';
import { emptyBody, resumingBody } from './resuming-body.ts';

/** How a storage behind HTTP is asked for one object. */
export interface ObjectSource {
  readonly key: string;
  /** What is read, where: `reading "nar/…" in azure://…`. */
  readonly action: string;
  /**
   * @param etag reads only this version of the object
   * @returns `gone` when there is none, `beyond` when the range begins after the object's end
   */
  readonly request: (range: ByteRange, etag?: string) => Promise<ObjectAnswer | 'gone' | 'beyond'>;
  readonly head: () => Promise<ObjectInfo | null>;
}

/** What an answer says, and its body. */
export interface ObjectAnswer extends Pick<ObjectInfo, 'etag' | 'modified'> {
  readonly contentLength: number | undefined;
  /** Absent where it brings the whole object. */
  readonly contentRange: string | undefined;
  readonly stream: Readable;
}

/** {@link Bucket.get}: a body that breaks off is gone on with where it broke, if the object is the same yet. */
export async function openObject(
  { key, action, request, head }: ObjectSource,
  { range, signal }: GetOptions = {},
): Promise<StoredObject | null> {
  const asked = clipRange(range, Number.MAX_SAFE_INTEGER);
  const answer = asked.start === asked.end ? 'beyond' : await request(asked);
  if (answer === 'gone') return null;
  // HTTP knows no empty range, and of an empty object no range at all.
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
      // Not every server heeds the condition.
      again.stream.destroy();
      return null;
    },
  });
  return { info, body };
}

/**
 * Of an answer whose body has to begin at the object's byte number `start`: how large the object is.
 *
 * @throws NicheError `storage-unavailable` where it does not say so, as then a body that was cut, or none,
 *   would pass for a whole one; or where it begins elsewhere, as one does that knows no ranges
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
      ? 'the answer does not say how large the object is'
      : `expected the bytes from ${start} on, got ${contentRange ?? 'the whole object'}`;
  throw new NicheError('storage-unavailable', `${action} failed: ${why}`, {
    hint: 'is there a proxy before the storage that changes its answers?',
  });
}

/**
 * What a HEAD says of the object's size.
 *
 * @throws Error where it says nothing
 */
export function knownSize(contentLength: number | undefined): number {
  if (contentLength !== undefined) return contentLength;
  throw new Error('the answer does not say how large the object is');
}
