import { timingSafeEqual } from 'node:crypto';

import { NicheError } from '../errors.ts';
import { createDataKey, openDataKey } from './data-key.ts';
import { decryptTree, encryptTree } from './encrypted-tree.ts';
import type { SecretMap, TreeRules } from './encrypted-tree.ts';
import { formatJson, parseJsonMap } from './json-tree.ts';
import { formatMetadata, metadataName, readMetadata, sopsVersion } from './metadata.ts';
import type { Metadata } from './metadata.ts';
import type { Identity, Keyring, Recipient, RecipientKind } from './recipient.ts';
import { defaultRules, encryptionRule } from './rules.ts';
import { decryptLeaf, encryptLeaf } from './sops-value.ts';

/** A decrypted document, with all that is needed to encrypt it again for the same recipients. */
export interface OpenDocument {
  readonly tree: SecretMap;
  readonly metadata: Metadata;
  /** 32 bytes. */
  readonly dataKey: Uint8Array;
  /** The kinds of the identities that decrypted it. */
  readonly openedBy: readonly RecipientKind[];
}

/**
 * Reads a document's metadata: its recipients and its rules. They are not authenticated.
 *
 * @param where the document's name in messages
 * @throws NicheError `malformed-secrets`, `newer-version`
 */
export function readDocumentMetadata(text: string, where: string): Metadata {
  return readMetadata(parseJsonMap(text, where), where);
}

/**
 * Decrypts a SOPS JSON document.
 *
 * @param where the document's name in messages
 * @throws NicheError `malformed-secrets`, `newer-version`, `no-identity`, `identity-failed`,
 *   `altered-secrets`; no message contains a value
 * @see https://getsops.io/docs/
 */
export async function decryptDocument(
  text: string,
  identities: readonly Identity[],
  where: string,
): Promise<OpenDocument> {
  const document = parseJsonMap(text, where);
  const metadata = readMetadata(document, where);
  const rules = treeRules(metadata, where);
  const { dataKey, kinds } = await openDataKey(metadata, identities, where);
  const encrypted = new Map([...document].filter(([name]) => name !== metadataName));
  const { tree, mac } = decryptTree(encrypted, dataKey, rules, where);
  assertMac(mac, metadata, dataKey, where);
  return { tree, metadata, dataKey, openedBy: kinds };
}

/** @throws NicheError `altered-secrets` */
function assertMac(computed: string, metadata: Metadata, dataKey: Uint8Array, where: string): void {
  const name = `the message authentication code of ${where}`;
  if (metadata.mac === '')
    throw new NicheError('altered-secrets', `checking ${name}: it is missing`);
  const path = canonicalTime(metadata.lastModified);
  const expected = String(decryptLeaf(metadata.mac, dataKey, path, name).value);
  const bytes = [computed, expected].map((text) => Buffer.from(text));
  const [one = Buffer.alloc(0), other = Buffer.alloc(0)] = bytes;
  if (one.length === other.length && timingSafeEqual(one, other)) return;
  throw new NicheError('altered-secrets', `checking ${name}: it does not match the values`, {
    hint: 'restore the document from a copy; edit it only with sops or niche',
  });
}

/** Formats a time as Go does: SOPS parses and formats it before it authenticates it. */
function canonicalTime(time: string): string {
  return time.replace(/\.\d+(?=Z|[+-])/, '').replace(/[+-]00:00$/, 'Z');
}

export interface NewDocument {
  readonly tree: SecretMap;
  /** Groups of recipients. With several groups, `threshold` of them are needed to decrypt. */
  readonly recipients: readonly (readonly Recipient[])[];
  /** @default all groups */
  readonly threshold?: number;
  readonly now: Date;
}

/**
 * Encrypts a document under a new data key.
 *
 * @throws NicheError `unusable-recipient`; `usage` without a recipient, or for an impossible threshold
 */
export async function encryptDocument(
  { tree, recipients, threshold = 0, now }: NewDocument,
  keyring: Pick<Keyring, 'wrap'>,
): Promise<string> {
  if (recipients.length === 0 || recipients.some((group) => group.length === 0)) {
    throw new NicheError('usage', 'encrypting a document: expected at least one recipient');
  }
  const time = formatTime(now);
  const { dataKey, groups } = await createDataKey(recipients, threshold, keyring, time);
  return writeDocument({
    tree,
    dataKey,
    metadata: {
      groups,
      threshold: threshold === 0 ? groups.length : threshold,
      lastModified: time,
      mac: '',
      macOnlyEncrypted: false,
      rules: defaultRules,
      version: sopsVersion,
    },
  });
}

/** Encrypts a document's new values under its data key, for its recipients. */
export function rewriteDocument(document: Omit<OpenDocument, 'openedBy'>, now: Date): string {
  const metadata = { ...document.metadata, lastModified: formatTime(now), version: sopsVersion };
  return writeDocument({ ...document, metadata });
}

function writeDocument({ tree, metadata, dataKey }: Omit<OpenDocument, 'openedBy'>): string {
  const rules = treeRules(metadata, 'the document');
  const encrypted = encryptTree(tree, dataKey, rules);
  const mac = encryptLeaf(encrypted.mac, dataKey, metadata.lastModified);
  return formatJson(
    new Map([...encrypted.tree, [metadataName, formatMetadata({ ...metadata, mac })]]),
  );
}

function treeRules(metadata: Metadata, where: string): TreeRules {
  return {
    isEncrypted: encryptionRule(metadata.rules, where),
    macOnlyEncrypted: metadata.macOnlyEncrypted,
  };
}

/** Formats a time in RFC 3339 with whole seconds, as SOPS does. */
function formatTime(time: Date): string {
  return time.toISOString().replace(/\.\d+Z$/, 'Z');
}
