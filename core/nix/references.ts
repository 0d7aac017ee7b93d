import { maxNamedUnclaimed } from '../limits.ts';
import { base32Alphabet } from './base32.ts';
import { maxStoreNameLength, storeHashLength } from './store-path.ts';

export interface ReferenceScannerOptions {
  /** The store directory, such as `/nix/store`, without a final slash. */
  readonly storeDir: string;
  /** The store hashes to look for, 32 characters each. */
  readonly candidates: Iterable<string>;
}

/** Scans bytes for store paths, as Nix finds references (RefScanSink in references.cc). */
export interface ReferenceScanner {
  /** Scans the next bytes. A match may span chunks. */
  write(chunk: Uint8Array): void;
  /** Returns the candidates found so far, whether or not they are part of a path. */
  found(): ReadonlySet<string>;
  /** Returns the store paths whose hash is not a candidate. Call it after the last `write`. */
  unclaimed(): UnclaimedPaths;
}

export interface UnclaimedPaths {
  /** Distinct hashes; counting stops at {@link maxCountedUnclaimed}. */
  readonly count: number;
  /** The first full paths in the order of their occurrence, at most {@link maxNamedUnclaimed}. */
  readonly first: readonly string[];
}

/** Bounds the memory of a scanner: about 100 bytes for each. */
export const maxCountedUnclaimed = 10_000;

/**
 * Returns the length of the key, a prefix of the hash, by which the scanner rules out most hashes with
 * one table lookup. Its table has 32 KiB for many candidates, and 1 KiB for a few: for a small NAR,
 * initializing the large table would take longer than the scan.
 */
const keyCharactersOf = (candidates: number): number => (candidates <= 8 ? 2 : 3);

const notDigit = 0xff;
/** The base32 value of each byte. */
const digits = new Uint8Array(256).fill(notDigit);
for (const [value, byte] of Buffer.from(base32Alphabet).entries()) {
  digits[byte] = value;
}
const nameCharacters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-._?=';
const isNameByte = new Uint8Array(256);
for (const byte of Buffer.from(nameCharacters)) isNameByte[byte] = 1;
const dash = 0x2d;

export function createReferenceScanner(options: ReferenceScannerOptions): ReferenceScanner {
  const candidates = new Set(options.candidates);
  const prefix = Buffer.from(`${options.storeDir}/`);
  const keyCharacters = keyCharactersOf(candidates.size);
  const keyMask = 2 ** (5 * keyCharacters) - 1;
  /** 1 for each key that a candidate starts with. */
  const keys = new Uint8Array(keyMask + 1);
  for (const candidate of candidates) {
    keys[keyAt(Buffer.from(candidate), 0, keyCharacters)] = 1;
  }

  const found = new Set<string>();
  const unclaimed = new Set<string>();
  const first: string[] = [];

  /** The last bytes written, as many as an incomplete store path can have. */
  const longestPath = prefix.length + storeHashLength + 1 + maxStoreNameLength;
  let tail = Buffer.alloc(0);

  const checkCandidate = (buffer: Buffer, start: number): void => {
    const hash = buffer.toString('latin1', start, start + storeHashLength);
    if (candidates.has(hash)) found.add(hash);
  };

  /** Records the path around the hash at `start`, if any. `isLast`: nothing follows `buffer`. */
  const checkUnclaimed = (buffer: Buffer, start: number, isLast: boolean): void => {
    const pathStart = start - prefix.length;
    const nameStart = start + storeHashLength + 1;
    if (buffer[nameStart - 1] !== dash || isNameByte[buffer[nameStart] ?? 0] !== 1) return;
    if (pathStart < 0 || prefix.compare(buffer, pathStart, start) !== 0) return;
    const nameEnd = endOfName(buffer, nameStart);
    const isCut = nameEnd === buffer.length && nameEnd - nameStart < maxStoreNameLength;
    if (isCut && !isLast) return;
    const hash = buffer.toString('latin1', start, nameStart - 1);
    if (candidates.has(hash) || unclaimed.has(hash)) return;
    if (unclaimed.size >= maxCountedUnclaimed) return;
    unclaimed.add(hash);
    if (first.length < maxNamedUnclaimed) first.push(buffer.toString('latin1', pathStart, nameEnd));
  };

  /** Checks each 32 digits of the run whose first 32 end at `last`. Returns the end of the run. */
  const inspectRun = (buffer: Buffer, last: number, isLast: boolean): number => {
    const { length } = buffer;
    let start = last - storeHashLength + 1;
    let key = keyAt(buffer, start, keyCharacters);
    for (let end = last + 1; ; end++) {
      if (keys[key] === 1) checkCandidate(buffer, start);
      if (end >= length || digits[buffer[end] ?? 0] === notDigit) {
        // A dash follows the hash of a path, so only the last 32 digits of a run can be one.
        checkUnclaimed(buffer, start, isLast);
        return end;
      }
      key = ((key << 5) | (digits[buffer[start + keyCharacters] ?? 0] ?? 0)) & keyMask;
      start++;
    }
  };

  const scan = (buffer: Buffer, isLast: boolean): void => {
    // A run of 32 digits covers every 32nd byte, so checking those skips most other bytes.
    let last = storeHashLength - 1;
    /** The bytes up to here have been checked. */
    let seen = -1;
    while (last < buffer.length) {
      const lowest = Math.max(last - storeHashLength, seen);
      let at = last;
      while (at > lowest && digits[buffer[at] ?? 0] !== notDigit) at--;
      seen = last;
      if (at === lowest) at = inspectRun(buffer, last, isLast);
      last = at + storeHashLength;
    }
  };

  return {
    write: (chunk) => {
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
      return { count: unclaimed.size, first: [...first] };
    },
  };
}

function keyAt(buffer: Uint8Array, start: number, keyCharacters: number): number {
  let key = 0;
  for (let index = start; index < start + keyCharacters; index++) {
    key = (key << 5) | (digits[buffer[index] ?? 0] ?? 0);
  }
  return key;
}

function endOfName(buffer: Uint8Array, start: number): number {
  const limit = Math.min(start + maxStoreNameLength, buffer.length);
  let end = start;
  while (end < limit && isNameByte[buffer[end] ?? 0] === 1) end++;
  return end;
}
