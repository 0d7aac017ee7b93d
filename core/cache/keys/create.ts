import { NicheError } from '../../errors.ts';
import { encryptDocument } from '../../secrets/document.ts';
import { describeRecipient, isSameRecipient } from '../../secrets/recipient.ts';
import type { Keyring, Recipient } from '../../secrets/recipient.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { createObject } from '../objects.ts';
import { privateDocument, toSecretTree, signingDocument } from '../secret-documents.ts';
import type { PrivateConfig, SigningConfig } from '../secret-documents.ts';

/** Encrypts a secret document under a new data key. */
export async function encryptSecret(
  value: PrivateConfig | SigningConfig,
  recipients: readonly Recipient[],
  keyring: Pick<Keyring, 'wrap'>,
): Promise<string> {
  return encryptDocument(
    { tree: toSecretTree(value), recipients: [recipients], now: new Date() },
    keyring,
  );
}

/** What `init` writes beside the public configuration. */
export interface SecretDocuments {
  /** Text of `niche.private.json`. */
  readonly private?: string | undefined;
  /** Text of `niche.signing.json`. */
  readonly signing?: string | undefined;
}

/**
 * Writes the secret documents of a new cache, and none over one that is there: a signing key that
 * was overwritten could not be had again.
 *
 * @throws NicheError `cache-exists`
 */
export async function createSecrets(
  roots: { readonly public: Bucket; readonly private: Bucket },
  documents: SecretDocuments,
): Promise<void> {
  const writes = [
    [roots.private, signingDocument.key, documents.signing],
    [roots.public, privateDocument.key, documents.private],
  ] as const;
  for (const [root, key, text] of writes) {
    if (text === undefined || (await createObject(root, key, text)) === 'created') continue;
    throw new NicheError('cache-exists', `there is a ${key} at ${root.url} already`, {
      hint: 'it was left as it is: see whose it is before you delete it',
    });
  }
}

/**
 * Whoever can read the signing key can sign anything, and clients are many.
 *
 * @throws NicheError `unsafe-recipients` when a client could read it
 */
export function assertSeparate(
  clients: readonly Recipient[],
  publishers: readonly Recipient[],
): void {
  const both = publishers.filter((one) => clients.some((other) => isSameRecipient(one, other)));
  if (both.length === 0) return;
  throw new NicheError(
    'unsafe-recipients',
    `${both.map(describeRecipient).join(' and ')} would read the signing key, but is a client: whoever has it could then sign anything as this cache`,
    {
      hint: 'give the publisher an identity of its own; or, where clients are to sign by themselves, --unsafe-share-signing-key',
    },
  );
}
