import { maxNamedUnclaimed } from '../limits.ts';
import { createStoreHashSet, isDigit, keyAt } from './store-hash-set.ts';
import { maxStoreNameLength, storeHashLength } from './store-path.ts';

export interface ReferenceScannerOptions {
  /** The store directory, such as `/nix/store`, without a final slash. */
  readonly storeDir: string;
  /** The store hashes to look for, 32 characters each. */
  readonly candidates: Iterable<string>;
}

/**
 * Scans bytes for store paths, as Nix finds references (RefScanSink in references.cc). The time is
 * linear in the bytes, also for contents that were made to be slow.
 */
export interface ReferenceScanner {
  /** Scans the next bytes. A match may span chunks. */
  write(chunk: Uint8Array): void;
  /** Returns the candidates found so far, whether or not they are part of a path. */
  found(): ReadonlySet<string>;
  /** Returns the store paths whose hash is not a candidate. Call it after the last `write`. */
  unclaimed(): UnclaimedPaths;
}

export interface UnclaimedPaths {
  /**
   * Distinct hashes, at most {@link maxCountedUnclaimed}, among the first {@link maxUnclaimedLookups}
   * occurrences.
   */
  readonly count: number;
  /** The first full paths in the order of their occurrence, at most {@link maxNamedUnclaimed}. */
  readonly first: readonly string[];
}

/** Bounds the memory of a scanner: about 200 bytes for each. */
export const maxCountedUnclaimed = 10_000;

/** Bounds the time of a scan: more occurrences of unclaimed paths, also of the same, are not counted. */
export const maxUnclaimedLookups = 100_000;

const nameCharacters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-._?=';
const isNameByte = new Uint8Array(256);
for (const byte of Buffer.from(nameCharacters)) isNameByte[byte] = 1;
const dash = 0x2d;

export function createReferenceScanner(options: ReferenceScannerOptions): ReferenceScanner {
  const names = [...new Set(options.candidates)];
  const candidates = createStoreHashSet(names.length);
  /** The candidates that were not found yet. */
  const wanted = createStoreHashSet(names.length);
  for (const name of names) {
    const bytes = Buffer.from(name);
    const key = keyAt(bytes, 0);
    candidates.add(key, bytes, 0);
    wanted.add(key, bytes, 0);
  }
  const prefix = Buffer.from(`${options.storeDir}/`);

  const found = new Set<string>();
  const unclaimed = createStoreHashSet(0);
  const first: string[] = [];

  /** The last bytes written, as many as an incomplete store path can have. */
  const longestPath = prefix.length + storeHashLength + 1 + maxStoreNameLength;
  let tail = Buffer.alloc(0);

  /** Occurrences of unclaimed paths so far, also of the same ones. */
  let lookups = 0;
  const hasCounted = (): boolean =>
    unclaimed.size() >= maxCountedUnclaimed || lookups >= maxUnclaimedLookups;
  const isComplete = (): boolean => wanted.size() === 0 && hasCounted();

  /** Returns whether a store path without its hash surrounds the hash at `start`. */
  const isInPath = (buffer: Buffer, start: number): boolean => {
    const nameStart = start + storeHashLength + 1;
    if (buffer[nameStart - 1] !== dash || isNameByte[buffer[nameStart] ?? 0] !== 1) return false;
    const pathStart = start - prefix.length;
    for (let index = prefix.length - 1; index >= 0; index--) {
      if (buffer[pathStart + index] !== prefix[index]) return false;
    }
    return true;
  };

  /** Looks at 32 digits that no other digits surround. `isLast`: nothing follows `buffer`. */
  const checkHash = (buffer: Buffer, start: number, isLast: boolean): void => {
    if (wanted.size() === 0 && (hasCounted() || !isInPath(buffer, start))) return;
    const key = keyAt(buffer, start);
    const index = candidates.indexOf(key, buffer, start);
    if (index < 0) noteUnclaimed(key, buffer, start, isLast);
    else if (isFound[index] === 0) onFound(index);
  };

  /** Records the path around the hash at `start`, if any. */
  const noteUnclaimed = (key: number, buffer: Buffer, start: number, isLast: boolean): void => {
    if (hasCounted() || !isInPath(buffer, start)) return;
    const nameEnd = endOfName(buffer, start + storeHashLength + 1);
    if (nameEnd === undefined && !isLast) return;
    lookups += 1;
    if (unclaimed.indexOf(key, buffer, start) >= 0) return;
    unclaimed.add(key, buffer, start);
    if (first.length >= maxNamedUnclaimed) return;
    first.push(buffer.toString('latin1', start - prefix.length, nameEnd ?? buffer.length));
  };

  const isFound = new Uint8Array(names.length);
  const onFound = (index: number): void => {
    isFound[index] = 1;
    wanted.delete(index);
    found.add(names[index] ?? '');
  };

  const skipRun = (buffer: Buffer, last: number): number => {
    let end = last + 1;
    while (isDigit(buffer[end])) end++;
    return end;
  };

  const scan = (buffer: Buffer, isLast: boolean): void => {
    // A run of 32 digits covers every 32nd byte, so checking those skips most other bytes.
    let last = storeHashLength - 1;
    /** The bytes up to here have been checked. */
    let seen = -1;
    while (last < buffer.length) {
      const lowest = Math.max(last - storeHashLength, seen);
      let at = last;
      while (at > lowest && isDigit(buffer[at])) at--;
      seen = last;
      if (at === lowest) {
        const start = last - storeHashLength + 1;
        at = last + 1;
        if (!isDigit(buffer[at])) checkHash(buffer, start, isLast);
        // No path has more digits than 32 between the store directory and the dash.
        else if (wanted.size() > 0) at = wanted.searchRun(buffer, start, onFound);
        else at = skipRun(buffer, last);
      }
      last = at + storeHashLength;
    }
  };

  return {
    write: (chunk) => {
      if (isComplete()) return;
      const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      const seam = Buffer.concat([tail, buffer.subarray(0, longestPath)]);
      if (tail.length > 0 || buffer.length <= longestPath) scan(seam, false);
      if (buffer.length > longestPath) {
        scan(buffer, false);
        tail = Buffer.from(buffer.subarray(buffer.length - longestPath));
      } else {
        tail = seam.subarray(Math.max(0, seam.length - longestPath));
      }
    },
    found: () => found,
    unclaimed: () => {
      // Only now is a path at the very end known to be complete.
      scan(tail, true);
      return { count: unclaimed.size(), first: [...first] };
    },
  };
}

/** Returns the end of the name at `start`; undefined when it may continue after the buffer. */
function endOfName(buffer: Uint8Array, start: number): number | undefined {
  const limit = start + maxStoreNameLength;
  let end = start;
  while (end < limit && isNameByte[buffer[end] ?? 0] === 1) end++;
  return end >= buffer.length && end < limit ? undefined : end;
}
