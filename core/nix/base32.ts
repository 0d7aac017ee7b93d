import { NicheError, quote } from '../errors.ts';

/** The digits in order of their values, without e, o, t and u (BaseNix32::characters in Nix). */
export const base32Alphabet = '0123456789abcdfghijklmnpqrsvwxyz';
const bitsPerCharacter = 5;

const valueOf = new Int8Array(128).fill(-1);
for (let value = 0; value < base32Alphabet.length; value++) {
  valueOf[base32Alphabet.charCodeAt(value)] = value;
}

/** Returns the number of base32 characters for `bytes` bytes. */
function encodedLength(bytes: number): number {
  return Math.ceil((bytes * 8) / bitsPerCharacter);
}

/**
 * Encodes bytes as Nix's base32. The bytes form one little-endian number, whose digits are written
 * with the most significant first: the text runs backwards relative to the bytes.
 */
export function encodeBase32(bytes: Uint8Array): string {
  let text = '';
  for (let digit = encodedLength(bytes.length) - 1; digit >= 0; digit--) {
    const bit = digit * bitsPerCharacter;
    const index = bit >> 3;
    const pair = (bytes[index] ?? 0) | ((bytes[index + 1] ?? 0) << 8);
    text += base32Alphabet.charAt((pair >> (bit & 7)) & 31);
  }
  return text;
}

/**
 * Decodes Nix's base32. Accepts only the spelling that {@link encodeBase32} produces.
 *
 * @throws NicheError `malformed-base32`
 */
export function decodeBase32(text: string): Uint8Array {
  const bytes = new Uint8Array(Math.floor((text.length * bitsPerCharacter) / 8));
  if (encodedLength(bytes.length) !== text.length) {
    throw malformed(text, 'no byte string has an encoding of this length');
  }
  for (let digit = 0; digit < text.length; digit++) {
    const value = valueOf[text.charCodeAt(text.length - 1 - digit)] ?? -1;
    if (value < 0) {
      throw malformed(text, `expected only characters of ${base32Alphabet}`);
    }
    const bit = digit * bitsPerCharacter;
    const index = bit >> 3;
    const pair = value << (bit & 7);
    bytes[index] = (bytes[index] ?? 0) | (pair & 0xff);
    const carry = pair >> 8;
    if (index + 1 < bytes.length) {
      bytes[index + 1] = carry;
    } else if (carry !== 0) {
      throw malformed(text, 'the unused bits are not zero');
    }
  }
  return bytes;
}

function malformed(text: string, reason: string): NicheError {
  return new NicheError('malformed-base32', `malformed base32 ${quote(text)}: ${reason}`);
}
