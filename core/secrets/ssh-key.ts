import { createPrivateKey, createPublicKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import { decodeBase64 } from '../util/base64.ts';

/** An SSH public key of a type that age supports. */
export interface SshPublicKey {
  readonly type: 'ssh-ed25519' | 'ssh-rsa';
  /** The wire format, as in an `authorized_keys` line. Its hash is the key's fingerprint. */
  readonly wire: Uint8Array;
  /** 32 bytes for Ed25519; empty for RSA. */
  readonly ed25519: Uint8Array;
  readonly key: KeyObject;
}

export interface SshPrivateKey {
  readonly publicKey: SshPublicKey;
  readonly key: KeyObject;
}

/** Parses `ssh-ed25519 AAAA… comment`; returns null for other text. */
export function parseSshPublicKey(text: string): SshPublicKey | null {
  const [type, base64 = ''] = text.trim().split(/\s+/);
  const wire = type === 'ssh-ed25519' || type === 'ssh-rsa' ? decodeBase64(base64) : null;
  return wire === null ? null : publicKeyOfWire(wire);
}

function publicKeyOfWire(wire: Uint8Array): SshPublicKey | null {
  const read = createReader(wire);
  try {
    switch (read.text()) {
      case 'ssh-ed25519': {
        const ed25519 = read.bytes();
        const key = createPublicKey({
          key: { kty: 'OKP', crv: 'Ed25519', x: base64url(ed25519) },
          format: 'jwk',
        });
        return { type: 'ssh-ed25519', wire, ed25519, key };
      }
      case 'ssh-rsa': {
        const [e, n] = [read.integer(), read.integer()];
        const key = createPublicKey({ key: { kty: 'RSA', n, e }, format: 'jwk' });
        if ((key.asymmetricKeyDetails?.modulusLength ?? 0) < minRsaBits) return null;
        return { type: 'ssh-rsa', wire, ed25519: new Uint8Array(), key };
      }
      default:
        return null;
    }
  } catch {
    return null;
  }
}

/** age's own minimum. */
const minRsaBits = 2048;

/**
 * Parses a private key file of `ssh-keygen`, or an RSA key in PEM.
 *
 * @returns `encrypted` for a key with a passphrase, null for a key that age does not support
 */
export function parseSshPrivateKey(text: string): SshPrivateKey | 'encrypted' | null {
  const [, body] =
    /-----BEGIN OPENSSH PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END OPENSSH PRIVATE KEY-----/.exec(
      text,
    ) ?? [];
  try {
    if (body === undefined) return privateKeyOfPem(text);
    return privateKeyOfOpenSsh(Buffer.from(body, 'base64'));
  } catch {
    return null;
  }
}

/** @see https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key */
function privateKeyOfOpenSsh(file: Uint8Array): SshPrivateKey | 'encrypted' | null {
  const magic = 'openssh-key-v1\0';
  if (Buffer.from(file.subarray(0, magic.length)).toString('latin1') !== magic) return null;
  const outer = createReader(file.subarray(magic.length));
  if (outer.text() !== 'none') return 'encrypted';
  outer.bytes(); // the key derivation's name
  outer.bytes(); // and its options
  if (outer.uint32() !== 1) return null;
  const publicKey = publicKeyOfWire(outer.bytes());
  const inner = createReader(outer.bytes());
  if (inner.uint32() !== inner.uint32() || publicKey === null) return null;
  if (inner.text() !== publicKey.type) return null;
  if (publicKey.type === 'ssh-ed25519') {
    inner.bytes(); // the public key
    const d = base64url(inner.bytes().subarray(0, 32));
    const x = base64url(publicKey.ed25519);
    const key = createPrivateKey({ key: { kty: 'OKP', crv: 'Ed25519', d, x }, format: 'jwk' });
    return { publicKey, key };
  }
  const [n, e, d, qi, p, q] = Array.from({ length: 6 }, () => inner.integer()) as Six<string>;
  const modulo = (prime: string): string => fromBigInt(toBigInt(d) % (toBigInt(prime) - 1n));
  const key = createPrivateKey({
    key: { kty: 'RSA', n, e, d, p, q, dp: modulo(p), dq: modulo(q), qi },
    format: 'jwk',
  });
  return { publicKey, key };
}

type Six<T> = [T, T, T, T, T, T];

function privateKeyOfPem(text: string): SshPrivateKey | 'encrypted' | null {
  if (text.includes('ENCRYPTED')) return 'encrypted';
  const key = createPrivateKey(text);
  if (key.asymmetricKeyType !== 'rsa') return null;
  const { n = '', e = '' } = createPublicKey(key).export({ format: 'jwk' });
  const fields = [Buffer.from('ssh-rsa'), mpint(e), mpint(n)];
  const wire = Buffer.concat(fields.flatMap((field) => [uint32(field.length), field]));
  const publicKey = publicKeyOfWire(wire);
  return publicKey === null ? null : { publicKey, key };
}

/** Reads SSH's length-prefixed strings (RFC 4251, section 5). */
function createReader(bytes: Uint8Array): {
  uint32(): number;
  bytes(): Uint8Array;
  text(): string;
  /** Reads a positive integer, as base64url for a JWK. */
  integer(): string;
} {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const uint32 = (): number => {
    at += 4;
    return view.getUint32(at - 4);
  };
  const take = (): Uint8Array => {
    const length = uint32();
    if (at + length > bytes.length) throw new RangeError('a string is longer than the key');
    at += length;
    return bytes.subarray(at - length, at);
  };
  return {
    uint32,
    bytes: take,
    text: () => Buffer.from(take()).toString('latin1'),
    integer: () => {
      const integer = take();
      // A leading zero marks a positive integer whose first bit is set.
      return base64url(integer[0] === 0 ? integer.subarray(1) : integer);
    },
  };
}

function mpint(integer: string): Buffer {
  const bytes = Buffer.from(integer, 'base64url');
  return (bytes[0] ?? 0) < 0x80 ? bytes : Buffer.concat([Buffer.of(0), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}

function toBigInt(integer: string): bigint {
  return BigInt(`0x${Buffer.from(integer, 'base64url').toString('hex')}`);
}

function fromBigInt(value: bigint): string {
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex').toString('base64url');
}
