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
 * Parses a public key.
 *
 * @throws NicheError `malformed-key`. The message shows at most the name: the text may be a secret key
 */
export function parsePublicKey(text: string): PublicKey {
  const named = parseNamed(text, nacl.sign.publicKeyLength);
  if (named === null) {
    const [, name] = /^([^:]*):/.exec(text) ?? [];
    const which = name === undefined ? 'public key without a name' : `public key ${quote(name)}`;
    const got = parseNamed(text, nacl.sign.secretKeyLength) === null ? '' : ', got a secret key';
    throw new NicheError(
      'malformed-key',
      `malformed ${which}: expected <name>:<base64 of ${nacl.sign.publicKeyLength} bytes>${got}`,
    );
  }
  return { name: named.name, key: named.bytes };
}

/**
 * Parses a secret key as `nix-store --generate-binary-cache-key` writes it; a final newline is allowed.
 *
 * @throws NicheError `malformed-key`. The message shows at most the name of a well-formed key
 */
export function parseSecretKey(text: string): SecretKey {
  const named = parseNamed(text.replace(/\r?\n$/, ''), nacl.sign.secretKeyLength);
  if (named === null) {
    throw new NicheError(
      'malformed-key',
      `malformed secret key: expected <name>:<base64 of ${nacl.sign.secretKeyLength} bytes>`,
    );
  }
  const secret = secretKeyOf(named.name, named.bytes.subarray(0, seedBytes));
  if (!nacl.verify(secret.key, named.bytes)) {
    throw new NicheError(
      'malformed-key',
      `malformed secret key ${quote(named.name)}: its public half does not match its secret half`,
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
      `malformed signature ${quote(text)}: expected <key name>:<base64 of ${nacl.sign.signatureLength} bytes>`,
    );
  }
  return { name: named.name, signature: named.bytes };
}

export function formatPublicKey(key: PublicKey): string {
  return `${key.name}:${encodeBase64(key.key)}`;
}

/** Formats the secret itself: for a key file or a secret document, never for a log or an error. */
export function formatSecretKey(key: SecretKey): string {
  return `${key.name}:${encodeBase64(key.key)}`;
}

export function formatSignature(signature: Signature): string {
  return `${signature.name}:${encodeBase64(signature.signature)}`;
}

/**
 * Generates a secret key.
 *
 * @param seed 32 secret bytes that determine the key. @default random
 * @throws NicheError `malformed-key` for an invalid name or a seed of another length
 */
export function generateSecretKey(
  name: string,
  seed: Uint8Array = nacl.randomBytes(seedBytes),
): SecretKey {
  if (!nameGrammar.test(name)) {
    throw new NicheError(
      'malformed-key',
      `cannot generate a key: expected a name without colons or white space, got ${quote(name)}`,
    );
  }
  if (seed.length !== seedBytes) {
    throw new NicheError(
      'malformed-key',
      `cannot generate the key ${quote(name)}: expected a seed of ${seedBytes} bytes, got ${seed.length}`,
    );
  }
  return secretKeyOf(name, seed);
}

/**
 * Signs a fingerprint. Uses node:crypto, about 50 times as fast as tweetnacl with the same result:
 * Ed25519 signatures are deterministic.
 *
 * @returns the value of a narinfo's `Sig` field, `<key name>:<base64>`
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

/** Does the same as {@link verifyFingerprint}, on the thread pool: for callers with many signatures. */
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
 * Returns whether `signature` verifies over `fingerprint` under the key of its name in `publicKeys`.
 * A malformed signature never does. Uses node:crypto, which like Nix's libsodium refuses a signature
 * with an unreduced scalar; tweetnacl would accept that second form of the same signature.
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

/** Importing a key takes longer than signing with it, so each key is imported once. */
const privateKeyObjects = new WeakMap<SecretKey, KeyObject>();
const publicKeyObjects = new WeakMap<PublicKey, KeyObject>();

function privateKeyObject(secretKey: SecretKey): KeyObject {
  const known = privateKeyObjects.get(secretKey);
  if (known) return known;
  const d = Buffer.from(secretKey.key.subarray(0, seedBytes)).toString('base64url');
  const x = Buffer.from(secretKey.publicKey.key).toString('base64url');
  const imported = createPrivateKey({ key: { kty: 'OKP', crv: 'Ed25519', d, x }, format: 'jwk' });
  privateKeyObjects.set(secretKey, imported);
  return imported;
}

function publicKeyObject(publicKey: PublicKey): KeyObject {
  const known = publicKeyObjects.get(publicKey);
  if (known) return known;
  const x = Buffer.from(publicKey.key).toString('base64url');
  const imported = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  publicKeyObjects.set(publicKey, imported);
  return imported;
}

/** The PKCS #8 bytes before the 32 bytes of an Ed25519 seed (RFC 8410, section 7). */
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex');

/** Derives the public half with node:crypto: tweetnacl would take about ten milliseconds per key. */
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
