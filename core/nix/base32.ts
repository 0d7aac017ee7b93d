import { NicheError, quote } from '../errors.ts';

/** Nix's own alphabet: digits and lower-case letters without e, o, t and u. */
const alphabet = '0123456789abcdfghijklmnpqrsvwxyz';
const bitsPerCharacter = 5;

const valueOf = new Int8Array(128).fill(-1);
for (let value = 0; value < alphabet.length; value++) {
  valueOf[alphabet.charCodeAt(value)] = value;
}

/** How many base32 characters spell `bytes` bytes. */
function encodedLength(bytes: number): number {
  return Math.ceil((bytes * 8) / bitsPerCharacter);
}

/**
 * Nix's base32: the bytes are one little-endian number and the digits are written most significant
 * first, so the text runs backwards against the bytes.
 */
export function encodeBase32(bytes: Uint8Array): string {
  let text = '';
  for (let digit = encodedLength(bytes.length) - 1; digit >= 0; digit--) {
    const bit = digit * bitsPerCharacter;
    const index = bit >> 3;
    const pair = (bytes[index] ?? 0) | ((bytes[index + 1] ?? 0) << 8);
    text += alphabet.charAt((pair >> (bit & 7)) & 31);
  }
  return text;
}

/**
 * The bytes that `text` spells; only the spelling that {@link encodeBase32} gives is accepted.
 *
 * @throws NicheError `malformed-base32`
 */
export function decodeBase32(text: string): Uint8Array {
  const bytes = new Uint8Array(Math.floor((text.length * bitsPerCharacter) / 8));
  if (encodedLength(bytes.length) !== text.length) {
    throw malformed(text, 'no number of bytes has this length');
  }
  for (let digit = 0; digit < text.length; digit++) {
    const value = valueOf[text.charCodeAt(text.length - 1 - digit)] ?? -1;
    if (value < 0) {
      throw malformed(text, `expected characters of ${alphabet}`);
    }
    const bit = digit * bitsPerCharacter;
    const index = bit >> 3;
    const pair = value << (bit & 7);
    bytes[index] = (bytes[index] ?? 0) | (pair & 0xff);
    const carry = pair >> 8;
    if (index + 1 < bytes.length) {
      bytes[index + 1] = carry;
    } else if (carry !== 0) {
      throw malformed(text, 'the bits beyond the last byte are not zero');
    }
  }
  return bytes;
}

/** Whether `text` is the base32 spelling of exactly `bytes` bytes. */
export function isBase32(text: string, bytes: number): boolean {
  if (text.length !== encodedLength(bytes)) {
    return false;
  }
  try {
    decodeBase32(text);
    return true;
  } catch {
    return false;
  }
}

function malformed(text: string, why: string): NicheError {
  return new NicheError('malformed-base32', `reading the base32 ${quote(text)}: ${why}`);
}
