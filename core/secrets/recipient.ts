/** Whoever a data key is encrypted for, by what SOPS knows them by. None of it is secret. */
export type Recipient =
  | AgeRecipient
  | PgpRecipient
  | AwsKmsRecipient
  | GcpKmsRecipient
  | AzureKvRecipient
  | OtherRecipient;

export interface AgeRecipient {
  readonly kind: 'age';
  /** `age1…`, or an SSH public key. */
  readonly recipient: string;
}

export interface PgpRecipient {
  readonly kind: 'pgp';
  /** Of the key or of one of its subkeys, in capitals. */
  readonly fingerprint: string;
}

export interface AwsKmsRecipient {
  readonly kind: 'aws-kms';
  readonly arn: string;
  /** Assumed before the key is used. */
  readonly role?: string | undefined;
  /** Of the user's AWS configuration. */
  readonly profile?: string | undefined;
  /** KMS's encryption context: the same must be given when decrypting. */
  readonly context?: Readonly<Record<string, string>> | undefined;
}

export interface GcpKmsRecipient {
  readonly kind: 'gcp-kms';
  /** `projects/…/locations/…/keyRings/…/cryptoKeys/…` */
  readonly resourceId: string;
}

export interface AzureKvRecipient {
  readonly kind: 'azure-kv';
  /** `https://….vault.azure.net` */
  readonly vaultUrl: string;
  readonly name: string;
  readonly version: string;
}

/** One of a kind that niche does not use, such as HashiCorp's Vault; it is kept as it is. */
export interface OtherRecipient {
  readonly kind: 'other';
  readonly id: string;
}

export type RecipientKind = Recipient['kind'];

/** A data key, or a part of one, encrypted for one recipient. */
export interface WrappedKey {
  readonly recipient: Recipient;
  /** In the form that SOPS has for this kind of recipient. */
  readonly wrapped: string;
  /** RFC 3339; age keys have none. */
  readonly createdAt?: string | undefined;
  /** The record of an {@link OtherRecipient}, as it came, and the list that it was in. */
  readonly other?: { readonly list: string; readonly record: unknown } | undefined;
}

/** Any one member opens the group; of several groups, as many are needed as the threshold says. */
export type KeyGroup = readonly WrappedKey[];

/** Something that may be able to decrypt data keys: age keys, the user's gpg, a cloud's KMS. */
export interface Identity {
  readonly kind: RecipientKind;
  /**
   * The data key.
   *
   * @returns null when it is not for this identity, or there is none on this machine
   * @throws NicheError `identity-failed` when it is, and cannot be decrypted all the same
   */
  unwrap(key: WrappedKey): Promise<Uint8Array | null>;
  /** Where it was looked for and what was found, for the message when no identity fits. */
  tried(): readonly string[];
}

/** What data keys are encrypted and decrypted with on this machine. */
export interface Keyring {
  /** In the order in which they are asked: what costs least first. */
  readonly identities: readonly Identity[];
  /**
   * Encrypts a data key.
   *
   * @throws NicheError `unusable-recipient`
   */
  wrap(recipient: Recipient, dataKey: Uint8Array): Promise<string>;
}

/** For people, and to tell recipients apart: kind and id. */
export function describeRecipient(recipient: Recipient): string {
  return `${recipient.kind}:${recipientId(recipient)}`;
}

/** What a recipient is known by, as it is given on the command line. */
export function recipientId(recipient: Recipient): string {
  switch (recipient.kind) {
    case 'age':
      return recipient.recipient;
    case 'pgp':
      return recipient.fingerprint;
    case 'aws-kms':
      return recipient.role === undefined ? recipient.arn : `${recipient.arn}+${recipient.role}`;
    case 'gcp-kms':
      return recipient.resourceId;
    case 'azure-kv':
      return `${recipient.vaultUrl}/keys/${recipient.name}/${recipient.version}`;
    case 'other':
      return recipient.id;
  }
}

/** Whether both are the same key: an SSH key's comment says nothing, nor does a role. */
export function isSameRecipient(one: Recipient, other: Recipient): boolean {
  return comparable(one) === comparable(other);
}

function comparable(recipient: Recipient): string {
  if (recipient.kind === 'aws-kms') return recipient.arn;
  if (recipient.kind === 'azure-kv') return `${recipient.vaultUrl}/keys/${recipient.name}`;
  const [type = '', key] = recipientId(recipient).split(/\s+/);
  return recipient.kind === 'age' && key !== undefined
    ? `${type} ${key}`
    : describeRecipient(recipient);
}
