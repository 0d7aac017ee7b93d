import { NicheError } from '../../errors.ts';
import { wrapFor } from '../../secrets/data-key.ts';
import { encryptDocument, readDocumentMetadata, rewriteDocument } from '../../secrets/document.ts';
import type { OpenDocument } from '../../secrets/document.ts';
import { describeRecipient, isSameRecipient } from '../../secrets/recipient.ts';
import type { Keyring, Recipient } from '../../secrets/recipient.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { cacheControlOf, contentTypeOf } from '../layout.ts';
import { openSecret, readSecret, toSecretTree } from '../secret-documents.ts';
import type {
  PrivateConfig,
  SecretKind,
  SigningConfig,
  StoredSecret,
} from '../secret-documents.ts';

/** A secret document that was read to be changed. */
export interface EditableSecret<T> {
  readonly stored: StoredSecret;
  readonly value: T;
  readonly document: OpenDocument;
}

/** @throws NicheError `not-found` when the cache has none, and what {@link openSecret} throws */
export async function openSecretForEdit<T>(
  root: Bucket,
  kind: SecretKind<T>,
  keyring: Keyring,
): Promise<EditableSecret<T>> {
  const stored = await readRequiredSecret(root, kind);
  return { stored, ...(await openSecret(stored, kind, keyring.identities)) };
}

/** @throws NicheError `not-found` when the cache has none */
export async function readRequiredSecret(
  root: Bucket,
  kind: Pick<SecretKind<unknown>, 'key'>,
): Promise<StoredSecret> {
  const stored = await readSecret(root, kind);
  if (stored) return stored;
  throw new NicheError('not-found', `there is no ${kind.key} at ${root.url}`, {
    hint: 'niche init makes one where it is given recipients; niche config upload puts one there',
  });
}

/** Everyone that a secret document is encrypted for. */
export function recipientsOfSecret({ text, where }: StoredSecret): Recipient[] {
  return readDocumentMetadata(text, where)
    .groups.flat()
    .map(({ recipient }) => recipient);
}

/** The document with another value, for the same recipients. */
export function rewriteSecret(
  { document }: Pick<EditableSecret<unknown>, 'document'>,
  value: PrivateConfig | SigningConfig,
): string {
  return rewriteDocument({ ...document, tree: toSecretTree(value) }, new Date());
}

/**
 * The document for more recipients, under the data key that it has: what others encrypted for
 * themselves stays as it is, so that nobody needs their public keys.
 *
 * @throws NicheError `unusable-recipient`, `usage` when there is nobody new or there are key groups
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
    throw new NicheError('usage', `${stored.where} is encrypted for ${whom} already`);
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
 * The document without some of its recipients, under a new data key.
 *
 * @throws NicheError `usage` when they are none of its recipients, or nobody would be left, or there
 *   are key groups; `unusable-recipient` when one that stays cannot be encrypted for here
 */
export async function removeRecipients(
  { document, stored }: EditableSecret<unknown>,
  removed: readonly Recipient[],
  keyring: Pick<Keyring, 'wrap'>,
): Promise<string> {
  const known = onlyGroup(document, stored).map(({ recipient }) => recipient);
  const isIn = (one: Recipient, list: readonly Recipient[]): boolean =>
    list.some((other) => isSameRecipient(one, other));
  const strangers = removed.filter((one) => !isIn(one, known));
  const left = known.filter((one) => !isIn(one, removed));
  if (strangers.length > 0 || left.length === 0) {
    const why =
      strangers.length > 0
        ? `is not encrypted for ${strangers.map(describeRecipient).join(', ')}`
        : 'would be left without a recipient, readable by nobody';
    throw new NicheError('usage', `${stored.where} ${why}`, {
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
    `${where} has ${metadata.groups.length} key groups: expected one, to add to or take from`,
    {
      hint: 'change it with sops: niche config download, sops updatekeys, niche config upload',
    },
  );
}

/**
 * Puts `text` in the place of a secret document as it was read.
 *
 * @throws NicheError `changed-meanwhile` when somebody else changed it since
 */
export async function replaceSecret(
  root: Bucket,
  key: string,
  text: string,
  { etag, where }: Pick<StoredSecret, 'etag' | 'where'>,
): Promise<void> {
  const outcome = await root.replace(key, Buffer.from(text), etag, {
    contentType: contentTypeOf(key),
    cacheControl: cacheControlOf(key),
  });
  if (outcome === 'replaced') return;
  throw new NicheError(
    'changed-meanwhile',
    `${where} was changed by somebody else meanwhile; nothing was written`,
    { hint: 'run the command again: it starts from what is there now' },
  );
}
