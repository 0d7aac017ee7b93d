import { NicheError } from '../../errors.ts';
import { wrapFor } from '../../secrets/data-key.ts';
import { encryptDocument, readDocumentMetadata, rewriteDocument } from '../../secrets/document.ts';
import type { OpenDocument } from '../../secrets/document.ts';
import { describeRecipient, isSameRecipient } from '../../secrets/recipient.ts';
import type { Keyring, Recipient } from '../../secrets/recipient.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { replaceObject } from '../objects.ts';
import { openSecret, readSecret, signingDocument, toSecretTree } from '../secret-documents.ts';
import type { ClientConfig, SecretKind, SigningConfig, StoredSecret } from '../secret-documents.ts';

/** A decrypted document, ready to be changed. */
export interface EditableSecret<T> {
  readonly stored: StoredSecret;
  readonly value: T;
  readonly document: OpenDocument;
}

/**
 * Reads and decrypts a document.
 *
 * @throws NicheError `not-found` when it is missing, and the codes of {@link openSecret}
 */
export async function openSecretForEdit<T>(
  root: Bucket,
  kind: SecretKind<T>,
  keyring: Keyring,
): Promise<EditableSecret<T>> {
  const stored = await readRequiredSecret(root, kind);
  return { stored, ...(await openSecret(stored, kind, keyring.identities)) };
}

/**
 * Reads an encrypted document.
 *
 * @throws NicheError `not-found` when it is missing; `storage-…` when it cannot be read
 */
export async function readRequiredSecret(
  root: Bucket,
  kind: Pick<SecretKind<unknown>, 'key'>,
): Promise<StoredSecret> {
  const stored = await readSecret(root, kind);
  if (stored) return stored;
  const options = kind.key === signingDocument.key ? '--signing FILE' : 'FILE';
  throw new NicheError('not-found', `${kind.key} is missing at ${root.url}`, {
    hint: `to add one that sops encrypted, run niche config upload -u URL ${options}`,
  });
}

/** Returns everyone that a document is encrypted for. */
export function recipientsOfSecret({ text, where }: StoredSecret): Recipient[] {
  return readDocumentMetadata(text, where)
    .groups.flat()
    .map(({ recipient }) => recipient);
}

/** Encrypts another value for the same recipients, with the same data key. Returns the new text. */
export function rewriteSecret(
  { document }: Pick<EditableSecret<unknown>, 'document'>,
  value: ClientConfig | SigningConfig,
): string {
  return rewriteDocument({ ...document, tree: toSecretTree(value) }, new Date());
}

/**
 * Adds recipients to a document, and keeps its data key: the entries of existing recipients stay
 * valid, so their public keys are not needed.
 *
 * @returns the new text
 * @throws NicheError `unusable-recipient`; `usage` when all are recipients already, or the document
 *   has key groups
 */
export async function addRecipients(
  { document, stored }: EditableSecret<unknown>,
  added: readonly Recipient[],
  keyring: Pick<Keyring, 'wrap'>,
): Promise<string> {
  const group = onlyGroup(document, stored);
  const known = group.map(({ recipient }) => recipient);
  const fresh = added.filter((one) => !known.some((other) => isSameRecipient(one, other)));
  if (fresh.length === 0) {
    const whom = added.map(describeRecipient).join(', ');
    throw new NicheError('usage', `${stored.where} is already encrypted for ${whom}`);
  }
  const now = new Date();
  const time = now.toISOString().replace(/\.\d+Z$/, 'Z');
  const wrapped = [];
  for (const recipient of fresh) {
    wrapped.push(await wrapFor(recipient, document.dataKey, keyring, time));
  }
  const metadata = { ...document.metadata, groups: [[...group, ...wrapped]] };
  return rewriteDocument({ ...document, metadata }, now);
}

/**
 * Removes recipients from a document, and encrypts it with a new data key.
 *
 * @returns the new text
 * @throws NicheError `usage` when some are not recipients, nobody would be left, or the document has
 *   key groups; `unusable-recipient` when this machine cannot encrypt for a remaining one
 */
export async function removeRecipients(
  { document, stored }: EditableSecret<unknown>,
  removed: readonly Recipient[],
  keyring: Pick<Keyring, 'wrap'>,
): Promise<string> {
  const known = onlyGroup(document, stored).map(({ recipient }) => recipient);
  const isIn = (one: Recipient, list: readonly Recipient[]): boolean =>
    list.some((other) => isSameRecipient(one, other));
  const unknown = removed.filter((one) => !isIn(one, known));
  const left = known.filter((one) => !isIn(one, removed));
  if (unknown.length > 0 || left.length === 0) {
    const reason =
      unknown.length > 0
        ? `is not encrypted for ${unknown.map(describeRecipient).join(', ')}`
        : 'would have no recipient left';
    throw new NicheError('usage', `${stored.where} ${reason}`, {
      hint: `its recipients: ${known.map(describeRecipient).join(', ')}`,
    });
  }
  return encryptDocument({ tree: document.tree, recipients: [left], now: new Date() }, keyring);
}

function onlyGroup(
  { metadata }: OpenDocument,
  { where }: StoredSecret,
): OpenDocument['metadata']['groups'][number] {
  const [group, ...more] = metadata.groups;
  if (group && more.length === 0) return group;
  throw new NicheError(
    'usage',
    `${where} has ${metadata.groups.length} key groups: niche changes only documents with one`,
    {
      hint: 'use sops: niche config download, sops updatekeys, niche config upload',
    },
  );
}

/**
 * Replaces a document, unless it has changed since it was read.
 *
 * @throws NicheError `changed-meanwhile`; `storage-…` when it cannot be written
 */
export async function replaceSecret(
  root: Bucket,
  key: string,
  text: string,
  { etag, where }: Pick<StoredSecret, 'etag' | 'where'>,
): Promise<void> {
  if ((await replaceObject(root, key, text, etag)) === 'replaced') return;
  throw new NicheError(
    'changed-meanwhile',
    `${where} was changed by someone else in the meantime; nothing was written`,
    { hint: 'run the command again: it starts from the current version' },
  );
}
