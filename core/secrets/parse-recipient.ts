import { NicheError, quote } from '../errors.ts';
import { regionOfArn } from './aws-kms.ts';
import { newestAzureKeyVersion } from './azure-kv.ts';
import { gcpKeyGrammar } from './gcp-kms.ts';
import type { Recipient, RecipientKind } from './recipient.ts';
import { parseSshPublicKey } from './ssh-key.ts';

/** The kinds that niche encrypts for, as in the names of their options. */
export type UsableKind = Exclude<RecipientKind, 'other'>;

/**
 * Parses a recipient of the command line. Requests the newest version of an Azure key without one.
 *
 * @param context the encryption context for AWS KMS, which authenticates and logs it
 * @throws NicheError `unusable-recipient` for malformed text, and if the request fails
 */
export async function parseRecipient(
  kind: UsableKind,
  text: string,
  context?: Readonly<Record<string, string>>,
): Promise<Recipient> {
  switch (kind) {
    case 'age':
      if (isAgeRecipient(text)) return { kind, recipient: text.trim() };
      throw unusable(kind, text, 'age1… or an SSH public key, ssh-ed25519 or ssh-rsa');
    case 'pgp': {
      const fingerprint = text.replaceAll(/\s/g, '').replace(/^0x/i, '').toUpperCase();
      if (/^(?:[0-9A-F]{40}|[0-9A-F]{64})!?$/.test(fingerprint)) return { kind, fingerprint };
      throw unusable(
        kind,
        text,
        'a full fingerprint of 40 hex digits; list them with: gpg --list-keys',
      );
    }
    case 'aws-kms': {
      const [, arn = text, role] = /^(.+?)\+(arn:.+)$/.exec(text) ?? [];
      if (regionOfArn(arn) === null || !(role ?? ':role/').includes(':role/')) {
        throw unusable(kind, text, 'arn:aws:kms:REGION:ACCOUNT:key/ID, or …+arn:…:role/NAME');
      }
      return { kind, arn, ...(role === undefined ? {} : { role }), ...(context && { context }) };
    }
    case 'gcp-kms':
      if (gcpKeyGrammar.test(text)) return { kind, resourceId: text };
      throw unusable(kind, text, 'projects/…/locations/…/keyRings/…/cryptoKeys/…');
    case 'azure-kv': {
      const [, vaultUrl, name, version = ''] =
        /^(https:\/\/[^/]+)\/keys\/([A-Za-z0-9-]+)(?:\/([A-Za-z0-9]*))?$/.exec(text) ?? [];
      if (vaultUrl === undefined || name === undefined) {
        throw unusable(kind, text, 'https://VAULT.vault.azure.net/keys/NAME/VERSION');
      }
      const known = version === '' ? await newestAzureKeyVersion(vaultUrl, name) : version;
      return { kind, vaultUrl, name, version: known };
    }
  }
}

function isAgeRecipient(text: string): boolean {
  return /^age1[0-9a-z]{50,}$/.test(text.trim()) || parseSshPublicKey(text) !== null;
}

function unusable(kind: UsableKind, text: string, expected: string): NicheError {
  // A user may pass the wrong half of a key pair. It must not end up in a log.
  const got = /SECRET|PRIVATE/i.test(text) ? 'a secret key' : quote(text);
  return new NicheError(
    'unusable-recipient',
    `parsing a recipient of kind ${kind}: expected ${expected}, got ${got}`,
  );
}
