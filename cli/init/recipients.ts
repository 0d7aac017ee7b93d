import type { Command } from 'commander';

import { parseRecipient } from '../../core/secrets/parse-recipient.ts';
import type { UsableKind } from '../../core/secrets/parse-recipient.ts';
import type { Recipient } from '../../core/secrets/recipient.ts';

type Flag = 'age' | 'pgp' | 'awsKms' | 'gcpKms' | 'azureKv';

/** Recipients as commander hands them over, each list by its option. */
export type RecipientFlags = Readonly<Partial<Record<Flag, readonly string[]>>>;

const kinds: readonly { flag: Flag; kind: UsableKind; value: string; what: string }[] = [
  {
    flag: 'age',
    kind: 'age',
    value: '<recipient>',
    what: 'an age recipient, or an SSH public key',
  },
  { flag: 'pgp', kind: 'pgp', value: '<fingerprint>', what: 'a PGP key that gpg has' },
  {
    flag: 'awsKms',
    kind: 'aws-kms',
    value: '<arn>',
    what: 'an AWS KMS key, perhaps with +<role ARN>',
  },
  { flag: 'gcpKms', kind: 'gcp-kms', value: '<id>', what: 'a Google Cloud KMS key' },
  { flag: 'azureKv', kind: 'azure-kv', value: '<url>', what: 'an Azure Key Vault key' },
];

/**
 * Adds `--age`, `--pgp` and the rest.
 *
 * @param prefix as `signing-`
 * @param who completes “…, for”
 */
export function addRecipientOptions(
  command: Command,
  prefix: '' | 'signing-',
  who: string,
): Command {
  for (const { kind, value, what } of kinds) {
    command.option(
      `--${prefix}${kind} ${value}`,
      `${what}, for ${who}; repeatable`,
      (text: string, before: readonly string[] | undefined) => [...(before ?? []), text],
    );
  }
  return command;
}

/** The flags of `addRecipientOptions` with `signing-`, without that. */
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
 * @param cacheName what AWS KMS binds the data key to, and writes into its log
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
