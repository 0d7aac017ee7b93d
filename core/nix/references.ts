import { maxNamedUnclaimed } from '../limits.ts';

export interface ReferenceScannerOptions {
  /** Such as `/nix/store`, without a final slash. */
  readonly storeDir: string;
  /** The store hashes (32 characters) to look for. */
  readonly candidates: Iterable<string>;
}

/** Looks for store paths in bytes, as Nix finds the references of what it built. */
export interface ReferenceScanner {
  /** Takes the next bytes; what lies across two chunks is found too. */
  write(chunk: Uint8Array): void;
  /** The candidates that occur anywhere in the bytes so far, with or without a path around. */
  found(): ReadonlySet<string>;
  /** Once all bytes are written: the store paths in them whose hash is no candidate. */
  unclaimed(): UnclaimedPaths;
}

export interface UnclaimedPaths {
  /** Different hashes; counting stops at {@link maxCountedUnclaimed}. */
  readonly count: number;
  /** The first as they were met, full paths, at most {@link maxNamedUnclaimed}. */
  readonly first: readonly string[];
}

/** Bounds what a scanner remembers, some 100 bytes each. */
export const maxCountedUnclaimed = 10_000;

const hashCharacters = 32;
const maxNameCharacters = 211;
/**
 * Candidates are told apart by this many characters first: many of them by a table of 32 KiB, a few by
 * one of 1 KiB, which a scanner of what is small is done with sooner than with making the other.
 */
const keyCharactersOf = (candidates: number): number => (candidates <= 8 ? 2 : 3);

const notDigit = 0xff;
/** The value of each byte as a digit of Nix's base32. */
const digits = new Uint8Array(256).fill(notDigit);
for (const [value, byte] of Buffer.from('0123456789abcdfghijklmnpqrsvwxyz').entries()) {
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
  /** Which first characters any candidate has: spares the others a look-up by text. */
  const keys = new Uint8Array(keyMask + 1);
  for (const candidate of candidates) {
    keys[keyAt(Buffer.from(candidate), 0, keyCharacters)] = 1;
  }

  const found = new Set<string>();
  const unclaimed = new Set<string>();
  const first: string[] = [];

  /** The last bytes written: as many as a store path that is not through yet can have. */
  const longestPath = prefix.length + hashCharacters + 1 + maxNameCharacters;
  let tail = Buffer.alloc(0);

  const lookUp = (buffer: Buffer, start: number): void => {
    const hash = buffer.toString('latin1', start, start + hashCharacters);
    if (candidates.has(hash)) found.add(hash);
  };

  /** Looks for a path around the hash at `start`; `isLast` says that nothing follows `buffer`. */
  const noteUnclaimed = (buffer: Buffer, start: number, isLast: boolean): void => {
    const pathStart = start - prefix.length;
    const nameStart = start + hashCharacters + 1;
    if (buffer[nameStart - 1] !== dash || isNameByte[buffer[nameStart] ?? 0] !== 1) return;
    if (pathStart < 0 || prefix.compare(buffer, pathStart, start) !== 0) return;
    const nameEnd = endOfName(buffer, nameStart);
    const isCut = nameEnd === buffer.length && nameEnd - nameStart < maxNameCharacters;
    if (isCut && !isLast) return;
    const hash = buffer.toString('latin1', start, nameStart - 1);
    if (candidates.has(hash) || unclaimed.has(hash)) return;
    if (unclaimed.size >= maxCountedUnclaimed) return;
    unclaimed.add(hash);
    if (first.length < maxNamedUnclaimed) first.push(buffer.toString('latin1', pathStart, nameEnd));
  };

  /** Looks at each 32 digits of the run whose first end at `last`; says where the run ends. */
  const inspectRun = (buffer: Buffer, last: number, isLast: boolean): number => {
    const { length } = buffer;
    let start = last - hashCharacters + 1;
    let key = keyAt(buffer, start, keyCharacters);
    for (let end = last + 1; ; end++) {
      if (keys[key] === 1) lookUp(buffer, start);
      if (end >= length || digits[buffer[end] ?? 0] === notDigit) {
        // What follows a path's hash is no digit: no other 32 of the run can be one.
        noteUnclaimed(buffer, start, isLast);
        return end;
      }
      key = ((key << 5) | (digits[buffer[start + keyCharacters] ?? 0] ?? 0)) & keyMask;
      start++;
    }
  };

  const scan = (buffer: Buffer, isLast: boolean): void => {
    // Every run of 32 digits has one at any 32nd byte: most of what is no hash is skipped.
    let last = hashCharacters - 1;
    /** The digits that end here have been seen; they need no second look. */
    let seen = -1;
    while (last < buffer.length) {
      const lowest = Math.max(last - hashCharacters, seen);
      let at = last;
      while (at > lowest && digits[buffer[at] ?? 0] !== notDigit) at--;
      seen = last;
      if (at === lowest) at = inspectRun(buffer, last, isLast);
      last = at + hashCharacters;
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
      // Only now is it known that a path at the very end goes no further.
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
  const limit = Math.min(start + maxNameCharacters, buffer.length);
  let end = start;
  while (end < limit && isNameByte[buffer[end] ?? 0] === 1) end++;
  return end;
}
