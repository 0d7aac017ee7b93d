import { maxNarNameBytes, maxNarTargetBytes } from '../limits.ts';

/** Size of the length field before every string of a NAR, in bytes: 64 bits, little-endian. */
export const lengthBytes = 8;

const encoder = new TextEncoder();

/** The fixed strings of the format. */
export const tags = {
  magic: encoder.encode('nix-archive-1'),
  open: encoder.encode('('),
  close: encoder.encode(')'),
  type: encoder.encode('type'),
  regular: encoder.encode('regular'),
  directory: encoder.encode('directory'),
  symlink: encoder.encode('symlink'),
  executable: encoder.encode('executable'),
  contents: encoder.encode('contents'),
  target: encoder.encode('target'),
  entry: encoder.encode('entry'),
  name: encoder.encode('name'),
  node: encoder.encode('node'),
};

/** Returns the number of zero bytes after `length` bytes, which pad to a multiple of 8. */
export function paddingOf(length: number): number {
  return (8 - (length % 8)) % 8;
}

/** Reads the length field at `at`; inexact above 2^53, which is far beyond every limit. */
export function lengthAt(buffer: Uint8Array, at: number): number {
  return uint32At(buffer, at) + uint32At(buffer, at + 4) * 2 ** 32;
}

/** Reads the length field at `at` exactly, as decimal text. */
export function exactLengthAt(buffer: Uint8Array, at: number): string {
  return String(BigInt(uint32At(buffer, at)) + (BigInt(uint32At(buffer, at + 4)) << 32n));
}

function uint32At(buffer: Uint8Array, at: number): number {
  const low = (buffer[at] ?? 0) | ((buffer[at + 1] ?? 0) << 8) | ((buffer[at + 2] ?? 0) << 16);
  return (low | ((buffer[at + 3] ?? 0) << 24)) >>> 0;
}

const slash = 0x2f;
const dot = 0x2e;

/** Returns whether the bytes are a valid name of a NAR entry. */
export function isNarName(buffer: Uint8Array, start: number, length: number): boolean {
  if (length === 0 || length > maxNarNameBytes) return false;
  for (let index = start; index < start + length; index++) {
    if (buffer[index] === 0 || buffer[index] === slash) return false;
  }
  if (buffer[start] !== dot) return true;
  return length > 2 || (length === 2 && buffer[start + 1] !== dot);
}

/** Returns whether the bytes are a valid target of a symlink. */
export function isNarTarget(buffer: Uint8Array, start: number, length: number): boolean {
  if (length === 0 || length > maxNarTargetBytes) return false;
  for (let index = start; index < start + length; index++) {
    if (buffer[index] === 0) return false;
  }
  return true;
}

/** Returns whether the `length` bytes at `start` equal `expected`. */
export function equalAt(
  buffer: Uint8Array,
  start: number,
  length: number,
  expected: Uint8Array,
): boolean {
  if (length !== expected.length) return false;
  for (let index = 0; index < length; index++) {
    if (buffer[start + index] !== expected[index]) return false;
  }
  return true;
}

/** Compares in byte order: negative when `left` is first, 0 when equal, positive otherwise. */
export function compareAt(
  left: Uint8Array,
  leftStart: number,
  leftLength: number,
  right: Uint8Array,
  rightStart: number,
  rightLength: number,
): number {
  const shared = Math.min(leftLength, rightLength);
  for (let index = 0; index < shared; index++) {
    const difference = (left[leftStart + index] ?? 0) - (right[rightStart + index] ?? 0);
    if (difference !== 0) return difference;
  }
  return leftLength - rightLength;
}

/** Compares whole arrays like {@link compareAt}, for sorting. */
export function compareBytes(left: Uint8Array, right: Uint8Array): number {
  return compareAt(left, 0, left.length, right, 0, right.length);
}

const lossy = new TextDecoder('utf-8', { ignoreBOM: true });

/** Decodes bytes for messages: whatever is not UTF-8 becomes U+FFFD. */
export function narText(bytes: Uint8Array): string {
  return lossy.decode(bytes);
}
