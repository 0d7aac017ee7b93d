import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

import { NicheError } from '../errors.ts';
import { decodeBase64, encodeBase64 } from '../util/base64.ts';

/**
 * Values of a SOPS document: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`. The value's path is AES-GCM's
 * additional data, so that a value cannot be moved to another path.
 *
 * @see https://github.com/getsops/sops/blob/main/aes/cipher.go
 */

/** A value other than an object or array. Bytes represent text that is not UTF-8. */
export type Leaf = string | bigint | number | boolean | Uint8Array;

/** Sizes in bytes; SOPS uses {@link ivBytes} for new values. */
const ivBytes = 32;
const maxIvBytes = 128;
const tagBytes = 16;

const grammar = /^ENC\[AES256_GCM,data:([^,]+),iv:([^,]+),tag:([^,]+),type:([a-z]+)\]$/;

/**
 * Encrypts a value. As in SOPS, empty text stays empty.
 *
 * @param dataKey 32 bytes
 * @param path the member names that lead to the value, each followed by a colon
 */
export function encryptLeaf(value: Leaf, dataKey: Uint8Array, path: string): string {
  const plain = leafBytes(value);
  if (plain.length === 0) return '';
  const iv = randomBytes(ivBytes);
  const cipher = createCipheriv('aes-256-gcm', dataKey, iv).setAAD(Buffer.from(path));
  const data = Buffer.concat([cipher.update(plain), cipher.final()]);
  const [text, nonce, tag] = [data, iv, cipher.getAuthTag()].map(encodeBase64) as Three<string>;
  return `ENC[AES256_GCM,data:${text},iv:${nonce},tag:${tag},type:${typeOf(value)}]`;
}

type Three<T> = [T, T, T];

/** A decrypted value. */
export interface OpenedLeaf {
  readonly value: Leaf;
  /** Comments are not part of the MAC. */
  readonly isComment: boolean;
}

/**
 * Decrypts a value.
 *
 * @param where the value's name in messages
 * @throws NicheError `malformed-secrets` for text that is not an encrypted value; `altered-secrets` if
 *   it was not encrypted with this key for this path
 */
export function decryptLeaf(
  text: string,
  dataKey: Uint8Array,
  path: string,
  where: string,
): OpenedLeaf {
  if (text === '') return { value: '', isComment: false };
  const [, data, iv, tag, type = ''] = grammar.exec(text) ?? [];
  const parts = [data, iv, tag].map((part) => (part === undefined ? null : decodeBase64(part)));
  const [dataBytes, ivPart, tagPart] = parts;
  if (!dataBytes || !ivPart || tagPart?.length !== tagBytes || ivPart.length > maxIvBytes) {
    throw new NicheError('malformed-secrets', `decrypting ${where}: expected ENC[AES256_GCM,…]`);
  }
  return readLeaf(open(dataBytes, ivPart, tagPart), type, where);

  function open(bytes: Uint8Array, nonce: Uint8Array, authTag: Uint8Array): Buffer {
    try {
      const decipher = createDecipheriv('aes-256-gcm', dataKey, nonce)
        .setAAD(Buffer.from(path))
        .setAuthTag(authTag);
      return Buffer.concat([decipher.update(bytes), decipher.final()]);
    } catch (cause) {
      throw new NicheError(
        'altered-secrets',
        `decrypting ${where}: the value was altered, or moved from another path`,
        { cause },
      );
    }
  }
}

function readLeaf(bytes: Buffer, type: string, where: string): OpenedLeaf {
  const text = bytes.toString('utf8');
  const refuse = (): never => {
    // The tag authenticates the bytes, not the type.
    throw new NicheError(
      'altered-secrets',
      `decrypting ${where}: the value is not of its stated type`,
    );
  };
  switch (type) {
    case 'str':
    case 'time':
      return { value: Buffer.from(text).equals(bytes) ? text : bytes, isComment: false };
    case 'bytes':
      return { value: bytes, isComment: false };
    case 'int':
      return { value: parseInteger(text) ?? refuse(), isComment: false };
    case 'float':
      return { value: parseFloatText(text) ?? refuse(), isComment: false };
    case 'bool':
      return { value: booleans.get(text) ?? refuse(), isComment: false };
    case 'comment':
      return { value: text, isComment: true };
    default:
      return refuse();
  }
}

/** The words of Go's `strconv.ParseBool`; SOPS writes `True` and `False`. */
const booleans: ReadonlyMap<string, boolean> = new Map([
  ...['1', 't', 'T', 'true', 'TRUE', 'True'].map((word) => [word, true] as const),
  ...['0', 'f', 'F', 'false', 'FALSE', 'False'].map((word) => [word, false] as const),
]);

function parseInteger(text: string): bigint | null {
  if (!/^[+-]?[0-9]{1,20}$/.test(text)) return null;
  const value = BigInt(text.replace(/^\+/, ''));
  return BigInt.asIntN(64, value) === value ? value : null;
}

function parseFloatText(text: string): number | null {
  if (!/^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/.test(text)) return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

/** Returns the bytes of a value that are encrypted and hashed for the MAC. */
export function leafBytes(value: Leaf): Uint8Array {
  if (typeof value === 'object') return value;
  if (typeof value === 'number') return Buffer.from(formatFloat(value));
  if (typeof value === 'boolean') return Buffer.from(value ? 'True' : 'False');
  return Buffer.from(String(value));
}

function typeOf(value: Leaf): string {
  if (typeof value === 'bigint') return 'int';
  if (typeof value === 'number') return 'float';
  return typeof value === 'boolean' ? 'bool' : 'str';
}

/** Formats as Go's `FormatFloat(v, 'f', -1, 64)`: the shortest exact decimal, without an exponent. */
function formatFloat(value: number): string {
  if (Object.is(value, -0)) return '-0';
  const [, sign = '', whole = '', fraction = '', exponent = '0'] =
    /^(-?)([0-9]+)(?:\.([0-9]+))?(?:e([+-][0-9]+))?$/.exec(String(value)) ?? [];
  const digits = whole + fraction;
  const point = whole.length + Number(exponent);
  if (point <= 0) return `${sign}0.${'0'.repeat(-point)}${digits}`;
  if (point >= digits.length) return `${sign}${digits}${'0'.repeat(point - digits.length)}`;
  return `${sign}${digits.slice(0, point)}.${digits.slice(point)}`;
}
