import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  privateDecrypt,
  publicEncrypt,
} from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import type { Identity, Recipient, Stanza } from 'age-encryption';

import { parseSshPublicKey } from './ssh-key.ts';
import type { SshPrivateKey, SshPublicKey } from './ssh-key.ts';

/**
 * SSH keys as age recipients and identities. The age-encryption library does not support them, but
 * accepts other kinds through its interfaces.
 *
 * @see https://pkg.go.dev/filippo.io/age/agessh
 */

const labels = {
  'ssh-ed25519': 'age-encryption.org/v1/ssh-ed25519',
  'ssh-rsa': 'age-encryption.org/v1/ssh-rsa',
} as const;

/** Sizes in bytes, of age's file key (age-encryption.org/v1) and a ChaCha20-Poly1305 tag. */
const fileKeyBytes = 16;
const tagBytes = 16;

/**
 * Returns the SSH public key of an age recipient; null for a native recipient, `age1…`.
 *
 * @throws Error for an SSH key of another type
 */
export function parseSshRecipient(text: string): SshPublicKey | null {
  if (!text.startsWith('ssh-')) return null;
  const key = parseSshPublicKey(text);
  if (key === null) throw new Error('expected an SSH public key of type ssh-ed25519 or ssh-rsa');
  return key;
}

/**
 * Returns a recipient for age's `Encrypter`.
 *
 * @param stanza the library's class, handed in so that this module does not load the library
 */
export function sshRecipient(key: SshPublicKey, stanza: typeof Stanza): Recipient {
  return {
    wrapFileKey(fileKey) {
      const wrap = key.type === 'ssh-rsa' ? wrapRsa : wrapEd25519;
      const { args, body } = wrap(key, fileKey);
      return [new stanza([key.type, fingerprint(key), ...args], body)];
    },
  };
}

/** Returns an identity for age's `Decrypter`. */
export function sshIdentity(key: SshPrivateKey): Identity {
  const { publicKey } = key;
  return {
    unwrapFileKey(stanzas) {
      for (const { args, body } of stanzas) {
        const [type, id, share] = args;
        if (type !== publicKey.type || id !== fingerprint(publicKey)) continue;
        if (args.length !== (type === 'ssh-rsa' ? 2 : 3)) throw new Error('malformed SSH stanza');
        return type === 'ssh-rsa' ? unwrapRsa(key, body) : unwrapEd25519(key, share ?? '', body);
      }
      return null;
    },
  };
}

interface Wrapped {
  readonly args: readonly string[];
  readonly body: Uint8Array;
}

function oaep(key: KeyObject): Parameters<typeof publicEncrypt>[0] {
  return {
    key,
    padding: constants.RSA_PKCS1_OAEP_PADDING,
    oaepHash: 'sha256',
    oaepLabel: Buffer.from(labels['ssh-rsa']),
  };
}

function wrapRsa({ key }: SshPublicKey, fileKey: Uint8Array): Wrapped {
  return { args: [], body: publicEncrypt(oaep(key), fileKey) };
}

function unwrapRsa({ key }: SshPrivateKey, body: Uint8Array): Uint8Array {
  return privateDecrypt(oaep(key), body);
}

function wrapEd25519(recipient: SshPublicKey, fileKey: Uint8Array): Wrapped {
  const theirs = montgomery(recipient.ed25519);
  const ephemeral = generateKeyPairSync('x25519');
  const share = rawPublicKey(ephemeral.publicKey);
  const shared = exchange(ephemeral.privateKey, theirs);
  const key = wrappingKey(recipient, shared, share, theirs);
  const cipher = createCipheriv('chacha20-poly1305', key, Buffer.alloc(12), {
    authTagLength: tagBytes,
  });
  const body = Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()]);
  return { args: [unpadded(share)], body };
}

function unwrapEd25519(identity: SshPrivateKey, text: string, body: Uint8Array): Uint8Array {
  const share = Buffer.from(text, 'base64');
  if (share.length !== 32 || unpadded(share) !== text || body.length !== fileKeyBytes + tagBytes) {
    throw new Error('malformed SSH stanza');
  }
  const { d = '' } = identity.key.export({ format: 'jwk' });
  const hash = createHash('sha512').update(Buffer.from(d, 'base64url')).digest();
  const secret = x25519Secret(hash.subarray(0, 32));
  const ours = rawPublicKey(createPublicKey(secret));
  const key = wrappingKey(identity.publicKey, exchange(secret, share), share, ours);
  const decipher = createDecipheriv('chacha20-poly1305', key, Buffer.alloc(12), {
    authTagLength: tagBytes,
  }).setAuthTag(body.subarray(fileKeyBytes));
  return Buffer.concat([decipher.update(body.subarray(0, fileKeyBytes)), decipher.final()]);
}

/** Binds the shared secret to the whole Ed25519 key, since X25519 does not use its sign bit. */
function wrappingKey(
  recipient: SshPublicKey,
  shared: Uint8Array,
  share: Uint8Array,
  theirs: Uint8Array,
): Uint8Array {
  const label = labels['ssh-ed25519'];
  const tweak = new Uint8Array(hkdfSync('sha256', new Uint8Array(), recipient.wire, label, 32));
  const tweaked = exchange(x25519Secret(tweak), shared);
  return new Uint8Array(hkdfSync('sha256', tweaked, Buffer.concat([share, theirs]), label, 32));
}

function exchange(secret: KeyObject, publicKey: Uint8Array): Uint8Array {
  return diffieHellman({ privateKey: secret, publicKey: x25519Public(publicKey) });
}

function x25519Secret(scalar: Uint8Array): KeyObject {
  const prefix = Buffer.from('302e020100300506032b656e04220420', 'hex');
  return createPrivateKey({ key: Buffer.concat([prefix, scalar]), format: 'der', type: 'pkcs8' });
}

function x25519Public(point: Uint8Array): KeyObject {
  const x = Buffer.from(point).toString('base64url');
  return createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x }, format: 'jwk' });
}

function rawPublicKey(key: KeyObject): Buffer {
  return Buffer.from(key.export({ format: 'jwk' }).x ?? '', 'base64url');
}

/** Returns the X25519 public key of an Ed25519 key: u = (1 + y) / (1 − y) (RFC 7748, section 4.1). */
function montgomery(ed25519: Uint8Array): Uint8Array {
  const prime = 2n ** 255n - 19n;
  const bytes = Buffer.from(ed25519).reverse();
  const y = BigInt(`0x${bytes.toString('hex')}`) & (2n ** 255n - 1n);
  const u = (((1n + y) % prime) * power((1n - y + prime) % prime, prime - 2n, prime)) % prime;
  return Buffer.from(u.toString(16).padStart(64, '0'), 'hex').reverse();
}

function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let [result, square] = [1n, base];
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % modulus;
    square = (square * square) % modulus;
  }
  return result;
}

function fingerprint({ wire }: SshPublicKey): string {
  return unpadded(createHash('sha256').update(wire).digest().subarray(0, 4));
}

function unpadded(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replace(/=+$/, '');
}
