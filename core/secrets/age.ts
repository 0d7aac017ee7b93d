import { NicheError, messageOf, quote } from '../errors.ts';
import type { AgeRecipient, Identity, WrappedKey } from './recipient.ts';
import { parseSshRecipient, sshIdentity, sshRecipient } from './age-ssh.ts';
import type { SshPrivateKey } from './ssh-key.ts';

/** age identities of one source. */
export interface AgeKeys {
  /** Lines of `AGE-SECRET-KEY-1…` (or `-PQ-1…`), without comments. */
  readonly secretKeys: readonly string[];
  /** SSH private keys, which age takes as well. */
  readonly sshKeys: readonly SshPrivateKey[];
  /** Where it was looked for, and with what result; no secret. */
  readonly tried: readonly string[];
}

/**
 * What age keys can decrypt.
 *
 * @param load finds the keys, at the first data key for an age recipient and again for another
 *   recipient, since a command may answer for one alone
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
  const who = `the data key for age recipient ${quote(recipientOf(key))}`;
  let file: Uint8Array;
  try {
    file = armor.decode(key.wrapped);
  } catch (cause) {
    throw failed(`${who} is not an age file: ${messageOf(cause)}`, cause);
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
    throw failed(`${who} is damaged: ${messageOf(cause)}`, cause);
  }
}

/** The library has no other way to tell. */
function isNotForUs(error: unknown): boolean {
  return messageOf(error).startsWith('no identity matched');
}

/** @throws NicheError `unusable-recipient` */
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
      `cannot encrypt for the age recipient ${quote(recipient)}: ${messageOf(cause)}`,
      { cause, hint: 'an age recipient is age1…, or an SSH public key (ssh-ed25519 or ssh-rsa)' },
    );
  }
}

/** The lines of an identity file that are keys, as `sops` reads them. */
export function parseAgeKeys(text: string, severalALine = false): string[] {
  return text
    .split(/\r?\n/)
    .filter((line) => line !== '' && !line.startsWith('#'))
    .flatMap((line) =>
      severalALine ? line.split(/\s+/).filter((word) => word !== '') : [line.trim()],
    );
}

/** Whether the library takes it: age's plugins, as for hardware keys, it does not. */
export function isAgeSecretKey(text: string): boolean {
  return /^AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]+$/.test(text);
}

function recipientOf({ recipient }: WrappedKey): string {
  return recipient.kind === 'age' ? recipient.recipient : '';
}

function failed(message: string, cause: unknown): NicheError {
  return new NicheError('identity-failed', message, { cause });
}
