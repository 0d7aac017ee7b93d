import { NicheError } from '../errors.ts';
import type { GetOptions } from './bucket.ts';

/** Bytes from `start` up to, not including, `end`; both within the object. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * Returns the part of `range` within an object of `size` bytes; empty where they do not meet.
 *
 * @throws NicheError `internal` for a bound that is not a whole number of bytes, or an end before the start
 */
export function clipRange(range: GetOptions['range'], size: number): ByteRange {
  if (range === undefined) return { start: 0, end: size };
  const { start, end = Number.MAX_SAFE_INTEGER } = range;
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || end < start) {
    throw new NicheError('internal', `expected a range of bytes, got ${start} to ${end}`);
  }
  return { start: Math.min(start, size), end: Math.min(end, size) };
}

/** Which part of an object a response contains. */
export interface ContentRange {
  /** The number of its first byte. */
  readonly first: number;
  /** The size of the whole object, in bytes. */
  readonly total: number;
}

/** Reads HTTP's `Content-Range` header; returns null where it does not state both numbers. */
export function parseContentRange(header: string | undefined): ContentRange | null {
  const [, first, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(header ?? '') ?? [];
  const parsed = { first: Number(first), total: Number(total) };
  return Number.isSafeInteger(parsed.first) && Number.isSafeInteger(parsed.total) ? parsed : null;
}

/** Returns the value of HTTP's `Range` header; undefined for the whole object. */
export function rangeHeader({ start, end }: ByteRange): string | undefined {
  if (end !== Number.MAX_SAFE_INTEGER) return `bytes=${start}-${end - 1}`;
  return start === 0 ? undefined : `bytes=${start}-`;
}
