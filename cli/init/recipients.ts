import type { Command } from 'commander';

import { parseRecipient } from '../../core/secrets/parse-recipient.ts';
import type { UsableKind } from '../../core/secrets/parse-recipient.ts';
import type { Recipient } from '../../core/secrets/recipient.ts';

type Flag = 'age' | 'pgp' | 'awsKms' | 'gcpKms' | 'azureKv';

/** The values of the recipient options, as the parser returns them. */
export type RecipientFlags = Readonly<Partial<Record<Flag, readonly string[]>>>;

const kinds: readonly { flag: Flag; kind: UsableKind; value: string; what: string }[] = [
  {
    flag: 'age',
    kind: 'age',
    value: '<recipient>',
    what: 'age recipient or SSH public key',
  },
  {
    flag: 'pgp',
    kind: 'pgp',
    value: '<fingerprint>',
    what: 'fingerprint of a PGP key in your gpg keyring',
  },
  {
    flag: 'awsKms',
    kind: 'aws-kms',
    value: '<arn>',
    what: 'ARN of an AWS KMS key, optionally with +<role ARN>',
  },
  { flag: 'gcpKms', kind: 'gcp-kms', value: '<id>', what: 'resource ID of a Google Cloud KMS key' },
  { flag: 'azureKv', kind: 'azure-kv', value: '<url>', what: 'URL of an Azure Key Vault key' },
];

/** Adds `--age`, `--pgp` and the other kinds, or with the prefix `--signing-age` and so on. */
export function addRecipientOptions(command: Command, prefix: '' | 'signing-'): Command {
  for (const { kind, value, what } of kinds) {
    command.option(
      `--${prefix}${kind} ${value}`,
      `${what}; repeatable`,
      (text: string, before: readonly string[] | undefined) => [...(before ?? []), text],
    );
  }
  return command;
}

/** Returns the values of the `--signing-…` options under their names without the prefix. */
export function signingFlags(flags: object): RecipientFlags {
  const named = flags as Readonly<Record<string, readonly string[] | undefined>>;
  return Object.fromEntries(
    kinds.flatMap(({ flag }) => {
      const list = named[`signing${flag.charAt(0).toUpperCase()}${flag.slice(1)}`];
      return list === undefined ? [] : [[flag, list]];
    }),
  );
}

/**
 * Parses the recipients.
 *
 * @param cacheName part of the encryption context: AWS KMS requires it to decrypt, and logs it
 * @throws NicheError `unusable-recipient`
 */
export async function recipientsOf(flags: RecipientFlags, cacheName: string): Promise<Recipient[]> {
  const context = { 'niche-cache': cacheName };
  const recipients: Recipient[] = [];
  for (const { flag, kind } of kinds) {
    for (const text of flags[flag] ?? []) {
      recipients.push(await parseRecipient(kind, text, context));
    }
  }
  return recipients;
}
