import type { ObjectInfo } from '../../core/storage/bucket.ts';
import type { ByteRange } from '../../core/storage/range.ts';

/** Returns the `ETag` of an object, strong and in quotes. */
export function etagOf(info: ObjectInfo): string {
  return /^(?:W\/)?".*"$/.test(info.etag) ? info.etag : `"${info.etag}"`;
}

/** Returns whether `If-None-Match` matches the object: the client has the current one. */
export function isUnchanged(ifNoneMatch: string | undefined, info: ObjectInfo): boolean {
  // A cache over HTTP may state no etag, which then shows nothing.
  if (ifNoneMatch === undefined || info.etag === '') return false;
  const current = weak(etagOf(info));
  return (
    ifNoneMatch.trim() === '*' ||
    ifNoneMatch.split(',').some((candidate) => weak(candidate.trim()) === current)
  );
}

/**
 * Returns the part of the object that `Range` requests; null for the whole object. Several ranges and
 * other units are ignored, which RFC 9110 allows.
 */
export function parseRange(
  range: string | undefined,
  ifRange: string | undefined,
  info: ObjectInfo,
): ByteRange | 'unsatisfiable' | null {
  if (range === undefined || !isCurrent(ifRange, info)) return null;
  const match = /^bytes=\s*([0-9]{0,15})-([0-9]{0,15})\s*$/i.exec(range);
  const [, first = '', last = ''] = match ?? [];
  if (first === '' && last === '') return null;
  const { size } = info;
  if (size === undefined) return null;
  if (first === '') return within(size - Math.min(Number(last), size), size, size);
  if (last === '') return within(Number(first), size, size);
  if (Number(last) < Number(first)) return null;
  return within(Number(first), Number(last) + 1, size);
}

function within(start: number, end: number, size: number): ByteRange | 'unsatisfiable' {
  return start < size ? { start, end: Math.min(end, size) } : 'unsatisfiable';
}

/** Returns whether `If-Range` is absent or matches the object. */
function isCurrent(ifRange: string | undefined, info: ObjectInfo): boolean {
  return ifRange === undefined || (info.etag !== '' && ifRange === etagOf(info));
}

function weak(etag: string): string {
  return etag.replace(/^W\//, '');
}
