import { NicheError } from '../../errors.ts';
import { encryptDocument } from '../../secrets/document.ts';
import { describeRecipient, isSameRecipient } from '../../secrets/recipient.ts';
import type { Keyring, Recipient } from '../../secrets/recipient.ts';
import type { CacheBuckets } from '../layout.ts';
import { createObject } from '../objects.ts';
import { clientDocument, toSecretTree, signingDocument } from '../secret-documents.ts';
import type { ClientConfig, SigningConfig } from '../secret-documents.ts';

/** Encrypts a document with a new data key. */
export async function encryptSecret(
  value: ClientConfig | SigningConfig,
  recipients: readonly Recipient[],
  keyring: Pick<Keyring, 'wrap'>,
): Promise<string> {
  return encryptDocument(
    { tree: toSecretTree(value), recipients: [recipients], now: new Date() },
    keyring,
  );
}

/** The encrypted documents that `init` writes, next to the public configuration. */
export interface SecretDocuments {
  /** Encrypted text of `niche.client.json`. */
  readonly client?: string | undefined;
  /** Encrypted text of `niche.signing.json`. */
  readonly signing?: string | undefined;
}

/**
 * Writes the encrypted documents of a new cache. Never overwrites one: an overwritten signing key would
 * be lost.
 *
 * @throws NicheError `cache-exists` when a document exists; `storage-…`
 */
export async function createSecrets(
  buckets: CacheBuckets,
  documents: SecretDocuments,
): Promise<void> {
  const writes = [
    [buckets.private, signingDocument.key, documents.signing],
    [buckets.public, clientDocument.key, documents.client],
  ] as const;
  for (const [bucket, key, text] of writes) {
    if (text === undefined || (await createObject(bucket, key, text)) === 'created') continue;
    throw new NicheError('cache-exists', `${key} exists already at ${bucket.url}`, {
      hint: 'find out who uses it before you delete it',
    });
  }
}

/**
 * Checks that no client can read the signing key: with the key, a client could sign anything.
 *
 * @throws NicheError `unsafe-recipients`
 */
export function assertSeparate(
  clients: readonly Recipient[],
  publishers: readonly Recipient[],
): void {
  const both = publishers.filter((one) => clients.some((other) => isSameRecipient(one, other)));
  if (both.length === 0) return;
  throw new NicheError(
    'unsafe-recipients',
    `clients must not read the signing key, but ${both.map(describeRecipient).join(' and ')} would: with it, a client can sign anything as this cache`,
    {
      hint: 'give the publisher its own identity, or pass --unsafe-share-signing-key if clients sign themselves',
    },
  );
}
