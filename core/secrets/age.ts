import { NicheError, messageOf, quote } from '../errors.ts';
import type { AgeRecipient, Identity, WrappedKey } from './recipient.ts';
import { parseSshRecipient, sshIdentity, sshRecipient } from './age-ssh.ts';
import type { SshPrivateKey } from './ssh-key.ts';

/** The age identities that were found, and where. */
export interface AgeKeys {
  /** Lines of `AGE-SECRET-KEY-1…` (or `-PQ-1…`), without comments. */
  readonly secretKeys: readonly string[];
  /** SSH private keys, which age accepts too. */
  readonly sshKeys: readonly SshPrivateKey[];
  /** Each searched place with its result, without secrets. */
  readonly tried: readonly string[];
}

/**
 * Returns the identity of this machine's age keys.
 *
 * @param load finds the keys for a recipient. It is called for each data key, since a command may
 *   print the keys of one recipient only
 */
export function ageIdentity(load: (recipient: string) => Promise<AgeKeys>): Identity {
  const tried = new Set<string>();
  return {
    kind: 'age',
    tried: () => (tried.size === 0 ? [] : [`age keys (${[...tried].join(', ')})`]),
    async unwrap(key) {
      const keys = await load(recipientOf(key));
      for (const place of keys.tried) tried.add(place);
      return unwrap(key, keys);
    },
  };
}

async function unwrap(key: WrappedKey, keys: AgeKeys): Promise<Uint8Array | null> {
  const { Decrypter, armor } = await import('age-encryption');
  const what = `decrypting the data key for the age recipient ${quote(recipientOf(key))}`;
  let file: Uint8Array;
  try {
    file = armor.decode(key.wrapped);
  } catch (cause) {
    throw failed(`${what}: not an age file: ${messageOf(cause)}`, cause);
  }
  const decrypter = new Decrypter();
  let known = 0;
  for (const secretKey of keys.secretKeys) {
    decrypter.addIdentity(secretKey);
    known += 1;
  }
  for (const sshKey of keys.sshKeys) {
    decrypter.addIdentity(sshIdentity(sshKey));
    known += 1;
  }
  if (known === 0) return null;
  try {
    return await decrypter.decrypt(file);
  } catch (cause) {
    if (isNotForUs(cause)) return null;
    throw failed(`${what}: ${messageOf(cause)}`, cause);
  }
}

/** Whether no identity fits. The library has no error class for it. */
function isNotForUs(error: unknown): boolean {
  return messageOf(error).startsWith('no identity matched');
}

/**
 * Encrypts a data key for an age recipient, as an armored age file.
 *
 * @throws NicheError `unusable-recipient`
 */
export async function wrapForAge(
  { recipient }: AgeRecipient,
  dataKey: Uint8Array,
): Promise<string> {
  const { Encrypter, Stanza, armor } = await import('age-encryption');
  const encrypter = new Encrypter();
  try {
    const ssh = parseSshRecipient(recipient);
    encrypter.addRecipient(ssh === null ? recipient : sshRecipient(ssh, Stanza));
    return armor.encode(await encrypter.encrypt(dataKey));
  } catch (cause) {
    throw new NicheError(
      'unusable-recipient',
      `encrypting for the age recipient ${quote(recipient)}: ${messageOf(cause)}`,
      { cause, hint: 'specify age1…, or an SSH public key (ssh-ed25519 or ssh-rsa)' },
    );
  }
}

/** Returns the keys of an identity file, as `sops` parses it. */
export function parseAgeKeys(text: string, severalALine = false): string[] {
  return text
    .split(/\r?\n/)
    .filter((line) => line !== '' && !line.startsWith('#'))
    .flatMap((line) =>
      severalALine ? line.split(/\s+/).filter((word) => word !== '') : [line.trim()],
    );
}

/** Returns whether the library accepts the key. It does not support plugins, as for hardware keys. */
export function isAgeSecretKey(text: string): boolean {
  return /^AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]+$/.test(text);
}

function recipientOf({ recipient }: WrappedKey): string {
  return recipient.kind === 'age' ? recipient.recipient : '';
}

function failed(message: string, cause: unknown): NicheError {
  return new NicheError('identity-failed', message, { cause });
}
