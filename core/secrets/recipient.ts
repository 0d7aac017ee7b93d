/** A recipient of a data key, as SOPS identifies it. None of its fields is secret. */
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
  /** The fingerprint of the key or one of its subkeys, in upper case. */
  readonly fingerprint: string;
}

export interface AwsKmsRecipient {
  readonly kind: 'aws-kms';
  readonly arn: string;
  /** The role to assume before using the key. */
  readonly role?: string | undefined;
  /** A profile of the user's AWS configuration. */
  readonly profile?: string | undefined;
  /** The encryption context, which decryption must repeat. */
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

/** A kind that niche does not support, such as HashiCorp Vault. It is kept unchanged. */
export interface OtherRecipient {
  readonly kind: 'other';
  readonly id: string;
}

export type RecipientKind = Recipient['kind'];

/** A data key, or a share of one, encrypted for one recipient. */
export interface WrappedKey {
  readonly recipient: Recipient;
  /** In SOPS's form for this kind of recipient. */
  readonly wrapped: string;
  /** RFC 3339; age keys have none. */
  readonly createdAt?: string | undefined;
  /** The unchanged record of an {@link OtherRecipient}, and the name of its list. */
  readonly other?: { readonly list: string; readonly record: unknown } | undefined;
}

/** Any one member decrypts the group. Of several groups, the threshold number is needed. */
export type KeyGroup = readonly WrappedKey[];

/** A source of decryption: age keys, the user's gpg, a cloud's KMS. */
export interface Identity {
  readonly kind: RecipientKind;
  /**
   * Decrypts a data key.
   *
   * @returns null if the key is not for this identity, or this machine has no such identity
   * @throws NicheError `identity-failed` if the key is for this identity, and decryption fails
   */
  unwrap(key: WrappedKey): Promise<Uint8Array | null>;
  /** Returns what was tried, for the message when no identity fits. */
  tried(): readonly string[];
}

/** Encrypts and decrypts data keys on this machine. */
export interface Keyring {
  /** In the order in which they are tried: cheapest first. */
  readonly identities: readonly Identity[];
  /**
   * Encrypts a data key, in SOPS's form.
   *
   * @throws NicheError `unusable-recipient`
   */
  wrap(recipient: Recipient, dataKey: Uint8Array): Promise<string>;
}

/** Returns a unique description: kind and id. */
export function describeRecipient(recipient: Recipient): string {
  return `${recipient.kind}:${recipientId(recipient)}`;
}

/** Returns a recipient's id, as on the command line. */
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

/** Returns whether both are the same key. An SSH key's comment and an AWS role do not count. */
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
