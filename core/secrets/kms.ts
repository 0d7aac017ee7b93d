import { NicheError, messageOf, quote } from '../errors.ts';
import { KmsError } from '../kms/kms.ts';
import type { Identity, Recipient } from './recipient.ts';

export type KmsKind = 'aws-kms' | 'gcp-kms' | 'azure-kv';

export type KmsRecipient<K extends KmsKind> = Extract<Recipient, { readonly kind: K }>;

/** Encrypts and decrypts data keys with one kind of KMS. */
export interface DataKeyKms<K extends KmsKind> {
  readonly kind: K;
  /** The name of the service for messages, as `AWS KMS`. */
  readonly service: string;
  /** Completes “these credentials need …”, for hints. */
  readonly permissions: { readonly encrypt: string; readonly decrypt: string };
  /** Returns the key's id, for messages. */
  keyId(recipient: KmsRecipient<K>): string;
  /**
   * Returns the encrypted data key in the form of a SOPS document.
   *
   * @throws KmsError
   */
  encrypt(recipient: KmsRecipient<K>, dataKey: Uint8Array): Promise<string>;
  /**
   * Returns the data key; null for a malformed record.
   *
   * @throws KmsError
   */
  decrypt(recipient: KmsRecipient<K>, wrapped: string): Promise<Uint8Array | null>;
}

/** Returns the identity that decrypts data keys with this machine's credentials for a KMS. */
export function kmsIdentity<K extends KmsKind>(kms: DataKeyKms<K>): Identity {
  const { kind, service } = kms;
  const tried = new Set<string>();
  return {
    kind,
    tried: () => [...tried],
    async unwrap({ recipient, wrapped }) {
      if (!isOfKind(recipient, kind)) return null;
      const failed = (reason: string, cause?: unknown): NicheError =>
        new NicheError(
          'identity-failed',
          `decrypting the data key with the ${service} key ${quote(kms.keyId(recipient))}: ${reason}`,
          { cause, ...hintFor(cause, kms.permissions.decrypt) },
        );
      try {
        const dataKey = await kms.decrypt(recipient, wrapped);
        if (dataKey === null) throw failed('the record in the document is malformed');
        tried.add(service);
        return dataKey;
      } catch (error) {
        if (error instanceof KmsError && error.reason === 'no-credentials') {
          tried.add(`${service} (no credentials)`);
          return null;
        }
        if (error instanceof NicheError) throw error;
        tried.add(service);
        throw failed(describe(error), error);
      }
    },
  };
}

/**
 * Encrypts a data key for a recipient.
 *
 * @throws NicheError `unusable-recipient`
 */
export async function wrapForKms<K extends KmsKind>(
  kms: DataKeyKms<K>,
  recipient: KmsRecipient<K>,
  dataKey: Uint8Array,
): Promise<string> {
  try {
    return await kms.encrypt(recipient, dataKey);
  } catch (cause) {
    throw encryptionFailure(kms, recipient, cause);
  }
}

/** Returns the error for a key that cannot be used to encrypt. */
export function encryptionFailure<K extends KmsKind>(
  kms: DataKeyKms<K>,
  recipient: KmsRecipient<K>,
  cause: unknown,
): NicheError {
  return new NicheError(
    'unusable-recipient',
    `encrypting with the ${kms.service} key ${quote(kms.keyId(recipient))}: ${describe(cause)}`,
    { cause, ...hintFor(cause, kms.permissions.encrypt) },
  );
}

function hintFor(error: unknown, permission: string): { readonly hint?: string } {
  if (!(error instanceof KmsError)) return {};
  const isDenied = error.reason === 'denied' || error.reason === 'wrong-key';
  const hint = error.hint ?? (isDenied ? `these credentials need ${permission}` : undefined);
  return hint === undefined ? {} : { hint };
}

function describe(error: unknown): string {
  if (error instanceof KmsError && error.reason === 'no-credentials') {
    return 'no credentials on this machine';
  }
  if (error instanceof KmsError && error.reason === 'wrong-ciphertext') {
    return 'this key did not encrypt the data key, or in another encryption context';
  }
  return quote(messageOf(error));
}

function isOfKind<K extends KmsKind>(recipient: Recipient, kind: K): recipient is KmsRecipient<K> {
  return recipient.kind === kind;
}
