import { createPrivateKey, createPublicKey, sign, verify, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import nacl from 'tweetnacl';
import { NicheError, quote } from '../errors.ts';
import { decodeBase64, encodeBase64 } from '../util/base64.ts';

/** An Ed25519 public key, written `<name>:<base64 of 32 bytes>`. */
export interface PublicKey {
  readonly name: string;
  readonly key: Uint8Array;
}

/** An Ed25519 secret key, written `<name>:<base64 of 64 bytes>`: the seed, then the public key. */
export interface SecretKey {
  readonly name: string;
  readonly key: Uint8Array;
  readonly publicKey: PublicKey;
}

/** An Ed25519 signature, written `<name of its key>:<base64 of 64 bytes>`. */
export interface Signature {
  readonly name: string;
  readonly signature: Uint8Array;
}

const seedBytes = nacl.sign.seedLength;
const nameGrammar = /^[^:\s\p{Cc}]+$/u;

/**
 * The message of a refusal shows a name and nothing behind it: what came may be the secret half.
 *
 * @throws NicheError `malformed-key`
 */
export function parsePublicKey(text: string): PublicKey {
  const named = parseNamed(text, nacl.sign.publicKeyLength);
  if (named === null) {
    const [, name] = /^([^:]*):/.exec(text) ?? [];
    const which =
      name === undefined ? 'a public key without a name' : `the public key ${quote(name)}`;
    const got = parseNamed(text, nacl.sign.secretKeyLength) === null ? '' : ', got a secret key';
    throw new NicheError(
      'malformed-key',
      `reading ${which}: expected <name>:<base64 of ${nacl.sign.publicKeyLength} bytes>${got}`,
    );
  }
  return { name: named.name, key: named.bytes };
}

/**
 * Reads what `nix-store --generate-binary-cache-key` writes, also with the newline of an editor at
 * its end. The message of a refusal shows nothing of the text.
 *
 * @throws NicheError `malformed-key`
 */
export function parseSecretKey(text: string): SecretKey {
  const named = parseNamed(text.replace(/\r?\n$/, ''), nacl.sign.secretKeyLength);
  if (named === null) {
    throw new NicheError(
      'malformed-key',
      `reading a secret key: expected <name>:<base64 of ${nacl.sign.secretKeyLength} bytes>`,
    );
  }
  const secret = secretKeyOf(named.name, named.bytes.subarray(0, seedBytes));
  if (!nacl.verify(secret.key, named.bytes)) {
    throw new NicheError(
      'malformed-key',
      `reading the secret key named ${quote(named.name)}: its public half is not that of its secret half`,
    );
  }
  return secret;
}

/** @throws NicheError `malformed-signature` */
export function parseSignature(text: string): Signature {
  const named = parseNamed(text, nacl.sign.signatureLength);
  if (named === null) {
    throw new NicheError(
      'malformed-signature',
      `reading the signature ${quote(text)}: expected <key name>:<base64 of ${nacl.sign.signatureLength} bytes>`,
    );
  }
  return { name: named.name, signature: named.bytes };
}

export function formatPublicKey(key: PublicKey): string {
  return `${key.name}:${encodeBase64(key.key)}`;
}

/** The secret itself: for a key file or a secret document, never for a log or an error. */
export function formatSecretKey(key: SecretKey): string {
  return `${key.name}:${encodeBase64(key.key)}`;
}

export function formatSignature(signature: Signature): string {
  return `${signature.name}:${encodeBase64(signature.signature)}`;
}

/**
 * A new secret key, or the one that `seed` determines.
 *
 * @param seed 32 bytes from a source of secrets; random when left out.
 * @throws NicheError `malformed-key` for a name or a seed that no key can have
 */
export function generateSecretKey(
  name: string,
  seed: Uint8Array = nacl.randomBytes(seedBytes),
): SecretKey {
  if (!nameGrammar.test(name)) {
    throw new NicheError(
      'malformed-key',
      `generating a key: expected a name without colons or white space, got ${quote(name)}`,
    );
  }
  if (seed.length !== seedBytes) {
    throw new NicheError(
      'malformed-key',
      `generating the key ${quote(name)}: expected a seed of ${seedBytes} bytes, got ${seed.length}`,
    );
  }
  return secretKeyOf(name, seed);
}

/**
 * Signs a fingerprint; the result is a narinfo's `Sig`, `<key name>:<base64>`. Ed25519 signatures
 * are deterministic, so node:crypto makes the same as tweetnacl, some 50 times as fast.
 */
export function signFingerprint(fingerprint: string, secretKey: SecretKey): string {
  const signature = sign(null, Buffer.from(fingerprint), privateKeyObject(secretKey));
  return formatSignature({ name: secretKey.name, signature });
}

const verifyLater = promisify(
  (data: Buffer, key: KeyObject, signature: Uint8Array, done: VerifyCallback): void => {
    verify(null, data, key, signature, done);
  },
);
type VerifyCallback = (error: Error | null, isValid: boolean) => void;

/** {@link verifyFingerprint}, on the thread pool: for whoever has many to verify. */
export async function verifyFingerprintAsync(
  fingerprint: string,
  signature: string,
  publicKeys: readonly PublicKey[],
): Promise<boolean> {
  const named = parseNamed(signature, nacl.sign.signatureLength);
  if (named === null) return false;
  const data = Buffer.from(fingerprint);
  for (const key of publicKeys) {
    if (key.name !== named.name) continue;
    if (await verifyLater(data, publicKeyObject(key), named.bytes)) return true;
  }
  return false;
}

/**
 * Whether `signature` is by one of `publicKeys`, found by its name, over `fingerprint`. A malformed
 * signature is by none. Verified by node:crypto, which like Nix's libsodium refuses a signature
 * whose scalar is not reduced; tweetnacl would let such a second form of a signature pass.
 */
export function verifyFingerprint(
  fingerprint: string,
  signature: string,
  publicKeys: readonly PublicKey[],
): boolean {
  const named = parseNamed(signature, nacl.sign.signatureLength);
  return (
    named !== null &&
    publicKeys.some(
      (key) =>
        key.name === named.name &&
        verify(null, Buffer.from(fingerprint), publicKeyObject(key), named.bytes),
    )
  );
}

/** Reading a key takes longer than signing with it, so each is read once. */
const privateKeyObjects = new WeakMap<SecretKey, KeyObject>();
const publicKeyObjects = new WeakMap<PublicKey, KeyObject>();

function privateKeyObject(secretKey: SecretKey): KeyObject {
  const known = privateKeyObjects.get(secretKey);
  if (known) return known;
  const d = Buffer.from(secretKey.key.subarray(0, seedBytes)).toString('base64url');
  const x = Buffer.from(secretKey.publicKey.key).toString('base64url');
  const read = createPrivateKey({ key: { kty: 'OKP', crv: 'Ed25519', d, x }, format: 'jwk' });
  privateKeyObjects.set(secretKey, read);
  return read;
}

function publicKeyObject(publicKey: PublicKey): KeyObject {
  const known = publicKeyObjects.get(publicKey);
  if (known) return known;
  const x = Buffer.from(publicKey.key).toString('base64url');
  const read = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  publicKeyObjects.set(publicKey, read);
  return read;
}

/** What comes before the 32 bytes of an Ed25519 seed in PKCS #8 (RFC 8410, section 7). */
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex');

/** tweetnacl would take some ten milliseconds, each time a key is read. */
function secretKeyOf(name: string, seed: Uint8Array): SecretKey {
  const der = Buffer.concat([pkcs8Prefix, seed]);
  const { x = '' } = createPublicKey(
    createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }),
  ).export({ format: 'jwk' });
  const publicKey = new Uint8Array(Buffer.from(x, 'base64url'));
  const key = new Uint8Array(Buffer.concat([seed, publicKey]));
  return { name, key, publicKey: { name, key: publicKey } };
}

function parseNamed(text: string, size: number): { name: string; bytes: Uint8Array } | null {
  const colon = text.indexOf(':');
  const name = text.slice(0, Math.max(colon, 0));
  const bytes = decodeBase64(text.slice(colon + 1));
  return nameGrammar.test(name) && bytes?.length === size ? { name, bytes } : null;
}
