import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

import { NicheError } from '../errors.ts';
import { decodeBase64, encodeBase64 } from '../util/base64.ts';

/**
 * One value of a SOPS document (github.com/getsops/sops, package aes):
 * `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`, by AES-256-GCM with the value's path as additional
 * data, so that no value can be taken for that of another path.
 */

/** A value that is no object and no array. Bytes stand for text that is not UTF-8. */
export type Leaf = string | bigint | number | boolean | Uint8Array;

/** In bytes, what SOPS takes for new values. */
const ivBytes = 32;
const maxIvBytes = 128;
const tagBytes = 16;

const grammar = /^ENC\[AES256_GCM,data:([^,]+),iv:([^,]+),tag:([^,]+),type:([a-z]+)\]$/;

/**
 * @param dataKey 32 bytes
 * @param path the names that lead to the value, each with a colon behind it
 * @returns the encrypted value; an empty text stays empty, as SOPS has it
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

/** What an encrypted value says. */
export interface OpenedLeaf {
  readonly value: Leaf;
  /** Comments have no part in the MAC. */
  readonly isComment: boolean;
}

/**
 * @param where names the value in messages
 * @throws NicheError `malformed-secrets` when it has not the form of an encrypted value,
 *   `altered-secrets` when it is not what was encrypted under this key for this path
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
    throw new NicheError('malformed-secrets', `${where} is not an encrypted value`);
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
        `${where} was altered, or moved there from another place`,
        { cause },
      );
    }
  }
}

function readLeaf(bytes: Buffer, type: string, where: string): OpenedLeaf {
  const text = bytes.toString('utf8');
  const refuse = (): never => {
    // The tag vouches for the bytes, not for the type beside them.
    throw new NicheError('altered-secrets', `${where} is not of the type that it claims to be`);
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

/** As Go's `strconv.ParseBool` takes them; SOPS writes `True` and `False`. */
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

/** The bytes of a value that are encrypted, and that the MAC is over. */
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

/** The shortest decimal that reads back the same, without an exponent: Go's `FormatFloat(v, 'f', -1, 64)`. */
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
