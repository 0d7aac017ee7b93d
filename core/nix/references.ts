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
/** Candidates are told apart by this many characters first. */
const keyCharacters = 4;

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
  /** Which first characters any candidate has: spares the others a look-up by text. */
  const keys = new Uint8Array(2 ** (5 * keyCharacters));
  for (const candidate of candidates) keys[keyAt(Buffer.from(candidate), 0)] = 1;

  const found = new Set<string>();
  const unclaimed = new Set<string>();
  const first: string[] = [];

  /** The last bytes written: as many as a store path that is not through yet can have. */
  const longestPath = prefix.length + hashCharacters + 1 + maxNameCharacters;
  let tail = Buffer.alloc(0);

  /** Looks at the 32 digits at `start`; `isLast` says that nothing comes after `buffer`. */
  const inspect = (buffer: Buffer, start: number, isLast: boolean): void => {
    if (keys[keyAt(buffer, start)] === 1) {
      const hash = buffer.toString('latin1', start, start + hashCharacters);
      if (candidates.has(hash)) {
        found.add(hash);
        return;
      }
    }
    const end = start + hashCharacters;
    if (buffer[end] !== dash || isNameByte[buffer[end + 1] ?? 0] !== 1) return;
    if (unclaimed.size >= maxCountedUnclaimed || !endsWithPrefix(buffer, start)) return;
    const nameEnd = endOfName(buffer, end + 1);
    const isCut = nameEnd === buffer.length && nameEnd - end - 1 < maxNameCharacters;
    if (isCut && !isLast) return;
    const hash = buffer.toString('latin1', start, end);
    if (unclaimed.has(hash)) return;
    unclaimed.add(hash);
    if (first.length < maxNamedUnclaimed) {
      first.push(buffer.toString('latin1', start - prefix.length, nameEnd));
    }
  };

  const endsWithPrefix = (buffer: Buffer, end: number): boolean => {
    const start = end - prefix.length;
    return start >= 0 && prefix.compare(buffer, start, end) === 0;
  };

  const scan = (buffer: Buffer, isLast: boolean): void => {
    const { length } = buffer;
    // Every run of 32 digits has one at any 32nd byte: all else is skipped.
    let last = hashCharacters - 1;
    while (last < length) {
      if (digits[buffer[last] ?? 0] === notDigit) {
        last += hashCharacters;
        continue;
      }
      const lowest = last - hashCharacters;
      let before = last - 1;
      while (before > lowest && digits[buffer[before] ?? 0] !== notDigit) before--;
      if (before > lowest) {
        last = before + hashCharacters;
        continue;
      }
      // A run long enough: every 32 digits in it are a hash, whatever is around them.
      do {
        inspect(buffer, last - hashCharacters + 1, isLast);
        last++;
      } while (last < length && digits[buffer[last] ?? 0] !== notDigit);
      last += hashCharacters;
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

function keyAt(buffer: Uint8Array, start: number): number {
  let key = 0;
  for (let index = start; index < start + keyCharacters; index++) {
    key = (key << 5) | ((digits[buffer[index] ?? 0] ?? 0) & 31);
  }
  return key;
}

function endOfName(buffer: Uint8Array, start: number): number {
  const limit = Math.min(start + maxNameCharacters, buffer.length);
  let end = start;
  while (end < limit && isNameByte[buffer[end] ?? 0] === 1) end++;
  return end;
}
