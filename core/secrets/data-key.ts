import { randomBytes } from 'node:crypto';

import { NicheError, isNicheError, messageOf } from '../errors.ts';
import { describeRecipient } from './recipient.ts';
import type {
  Identity,
  KeyGroup,
  Keyring,
  Recipient,
  RecipientKind,
  WrappedKey,
} from './recipient.ts';
import { combineSecret, splitSecret } from './shamir.ts';

/** The size of an AES-256 key. */
const dataKeyBytes = 32;

export interface KeyGroups {
  readonly groups: readonly KeyGroup[];
  /** The number of groups that are needed; 0 stands for all. */
  readonly threshold: number;
}

/**
 * Creates a data key, and encrypts it for every member of every group. With several groups, each
 * gets a share of the key.
 *
 * @throws NicheError `unusable-recipient`, `usage` for an impossible threshold
 */
export async function createDataKey(
  recipients: readonly (readonly Recipient[])[],
  threshold: number,
  keyring: Pick<Keyring, 'wrap'>,
  createdAt: string,
): Promise<{ dataKey: Uint8Array; groups: KeyGroup[] }> {
  const dataKey = randomBytes(dataKeyBytes);
  const parts =
    recipients.length === 1
      ? [dataKey]
      : splitSecret(dataKey, recipients.length, threshold === 0 ? recipients.length : threshold);
  const groups: WrappedKey[][] = [];
  for (const [index, group] of recipients.entries()) {
    const keys: WrappedKey[] = [];
    for (const recipient of group) {
      keys.push(await wrapFor(recipient, parts[index] ?? dataKey, keyring, createdAt));
    }
    groups.push(keys);
  }
  return { dataKey, groups };
}

/**
 * Encrypts a data key, or a share of it, for one recipient.
 *
 * @throws NicheError `unusable-recipient`
 */
export async function wrapFor(
  recipient: Recipient,
  dataKey: Uint8Array,
  keyring: Pick<Keyring, 'wrap'>,
  createdAt: string,
): Promise<WrappedKey> {
  const wrapped = await keyring.wrap(recipient, dataKey);
  return { recipient, wrapped, ...(recipient.kind === 'age' ? {} : { createdAt }) };
}

export interface OpenedDataKey {
  readonly dataKey: Uint8Array;
  /** The kinds of the identities that decrypted it, one for each group that was needed. */
  readonly kinds: readonly RecipientKind[];
}

/**
 * Decrypts a document's data key with the given identities.
 *
 * @throws NicheError `identity-failed` if the identity of a recipient could not decrypt;
 *   `no-identity` if there is no identity of a recipient; `altered-secrets`. The messages of the first
 *   two list the recipients and what was tried
 */
export async function openDataKey(
  { groups, threshold }: KeyGroups,
  identities: readonly Identity[],
  where: string,
): Promise<OpenedDataKey> {
  const failures: NicheError[] = [];
  const parts: Uint8Array[] = [];
  const kinds: RecipientKind[] = [];
  const needed = groups.length === 1 ? 1 : threshold === 0 ? groups.length : threshold;
  for (const group of groups) {
    if (parts.length === needed) break;
    const part = await openGroup(group, identities, failures);
    if (!part) continue;
    parts.push(part.bytes);
    kinds.push(part.kind);
  }
  if (parts.length < needed)
    throw cannotOpen(groups, needed, parts.length, identities, failures, where);
  const dataKey = groups.length === 1 ? parts[0] : combineSecret(parts);
  if (dataKey?.length !== dataKeyBytes) {
    throw new NicheError(
      'altered-secrets',
      `decrypting ${where}: expected a data key of ${dataKeyBytes} bytes, got ${dataKey?.length ?? 0}`,
    );
  }
  return { dataKey, kinds };
}

async function openGroup(
  group: KeyGroup,
  identities: readonly Identity[],
  failures: NicheError[],
): Promise<{ bytes: Uint8Array; kind: RecipientKind } | null> {
  for (const identity of identities) {
    for (const key of group.filter(({ recipient }) => recipient.kind === identity.kind)) {
      try {
        const part = await identity.unwrap(key);
        if (part) return { bytes: part, kind: identity.kind };
      } catch (error) {
        if (!isNicheError(error, 'identity-failed')) throw error;
        failures.push(error);
      }
    }
  }
  return null;
}

function cannotOpen(
  groups: readonly KeyGroup[],
  needed: number,
  opened: number,
  identities: readonly Identity[],
  failures: readonly NicheError[],
  where: string,
): NicheError {
  const recipients = groups
    .map((group) => group.map(({ recipient }) => describeRecipient(recipient)).join(', '))
    .join('; ');
  const quorum =
    groups.length === 1
      ? ''
      : ` (${needed} of ${groups.length} groups are needed, ${opened} decrypted)`;
  const tried = identities.flatMap((identity) => identity.tried()).join('; ') || 'nothing';
  const failed = failures.map((failure) => messageOf(failure)).join('; ');
  if (failures.length > 0) {
    const hint = failures.find((failure) => failure.hint !== undefined)?.hint;
    return new NicheError(
      'identity-failed',
      `decrypting ${where}, encrypted for ${recipients}${quorum}: ${failed}; tried ${tried}`,
      { cause: failures[0], ...(hint === undefined ? {} : { hint }) },
    );
  }
  return new NicheError(
    'no-identity',
    `no identity on this machine decrypts ${where}: it is encrypted for ${recipients}${quorum}; tried ${tried}`,
    {
      hint: 'set SOPS_AGE_KEY or SOPS_AGE_KEY_FILE, add a key to gpg or log in to a cloud; or ask an administrator to run: niche config add-recipient',
    },
  );
}
