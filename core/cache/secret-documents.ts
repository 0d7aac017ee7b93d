import * as z from 'zod';

import { maxSecretDocumentBytes } from '../limits.ts';
import { formatPublicKey, parseSecretKey } from '../nix/keys.ts';
import { decryptDocument } from '../secrets/document.ts';
import type { OpenDocument } from '../secrets/document.ts';
import type { SecretMap } from '../secrets/encrypted-tree.ts';
import { fromPlain, toPlain } from '../secrets/json-tree.ts';
import type { JsonMap, JsonValue } from '../secrets/json-tree.ts';
import type { Identity } from '../secrets/recipient.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { clientConfigKey, signingConfigKey } from './layout.ts';
import { readObjectWithInfo } from './objects.ts';
import { checkDocument } from './stored-json.ts';
import type { JsonFormat } from './stored-json.ts';

/** The version of both secret documents that this release writes, and the newest that it reads. */
export const secretConfigVersion = 1;

const secret = z
  .string()
  .min(1)
  .max(16 * 1024);
const storageUrl = z
  .string()
  .refine((text) => URL.canParse(text) && !/[@#]/.test(text), 'expected a storage URL');

/** Storage credentials, as in the documents and in `--upload-credentials`. */
export const storageCredentials = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('s3'),
    accessKeyId: secret,
    secretAccessKey: secret,
    sessionToken: secret.optional(),
  }),
  z
    .strictObject({
      kind: z.literal('azure'),
      accountKey: secret.optional(),
      sas: secret.optional(),
      connectionString: secret.optional(),
    })
    .refine(
      ({ accountKey, sas, connectionString }) =>
        [accountKey, sas, connectionString].filter((one) => one !== undefined).length === 1,
      'expected exactly one of accountKey, sas and connectionString',
    ),
  z.strictObject({ kind: z.literal('google'), serviceAccount: secret }),
]);

const clientConfig = z.strictObject({
  version: z.literal(secretConfigVersion),
  /** URL of the public root. */
  storage: storageUrl,
  /** URL of the staging root. */
  staging: storageUrl,
  /** URL of the private root, for clients that publish themselves (`--unsafe-share-signing-key`). */
  private: storageUrl.optional(),
  /**
   * Credentials for the staging root alone, and for the private root if the document has one. Omitted:
   * the machine's own credentials are used.
   */
  credentials: storageCredentials.optional(),
  /** Credentials for reading the public root, where not everyone may. */
  readCredentials: storageCredentials.optional(),
  /** A role to assume instead, where an identity of AWS decrypted the document. */
  role: z
    .string()
    .regex(/^arn:aws[\w-]*:iam::\d+:role\/.+$/, 'expected an IAM role ARN')
    .optional(),
});

const signingConfig = z.strictObject({
  version: z.literal(secretConfigVersion),
  /** In Nix's format. Each of them signs. */
  secretKeys: z.array(z.string().refine(isSecretKey, 'expected a secret key')).max(16),
});

/** The contents of `niche.client.json`: what a client needs for uploads. */
export type ClientConfig = z.infer<typeof clientConfig>;
/** The contents of `niche.signing.json`: the keys that the publisher signs with. */
export type SigningConfig = z.infer<typeof signingConfig>;

/** One of the two kinds of documents. */
export interface SecretKind<T> {
  readonly key: string;
  readonly format: JsonFormat<T>;
}

export const clientDocument: SecretKind<ClientConfig> = {
  key: clientConfigKey,
  format: secretFormat(clientConfig),
};
export const signingDocument: SecretKind<SigningConfig> = {
  key: signingConfigKey,
  format: secretFormat(signingConfig),
};

function secretFormat<T>(schema: z.ZodType<T>): JsonFormat<T> {
  return {
    code: 'malformed-secrets',
    schema,
    newestVersion: secretConfigVersion,
    isSecret: true,
    maxBytes: maxSecretDocumentBytes,
  };
}

/** An encrypted document, as stored in a cache. */
export interface StoredSecret {
  readonly text: string;
  readonly etag: string;
  /** Names it in messages. */
  readonly where: string;
}

/**
 * Reads an encrypted document.
 *
 * @returns null when it is missing
 * @throws NicheError `oversized`; `storage-…` when it cannot be read
 */
export async function readSecret(
  root: ObjectReader,
  { key }: Pick<SecretKind<unknown>, 'key'>,
): Promise<StoredSecret | null> {
  const found = await readObjectWithInfo(root, key, maxSecretDocumentBytes);
  if (!found) return null;
  const { body, info } = found;
  return { text: body.toString('utf8'), etag: info.etag, where: `${key} of ${root.url}` };
}

/**
 * Decrypts a document and validates its contents.
 *
 * @throws NicheError the codes of {@link decryptDocument}; `malformed-secrets` or `newer-version` for
 *   the contents. No message contains a secret value
 */
export async function openSecret<T>(
  { text, where }: StoredSecret,
  kind: SecretKind<T>,
  identities: readonly Identity[],
): Promise<{ value: T; document: OpenDocument }> {
  const document = await decryptDocument(text, identities, where);
  return { value: parseSecret(toPlain(document.tree as JsonValue), kind, where), document };
}

/**
 * Validates the contents of a document.
 *
 * @throws NicheError `malformed-secrets`, `newer-version`
 */
export function parseSecret<T>(plain: unknown, { format }: SecretKind<T>, where: string): T {
  return checkDocument(plain, where, format);
}

/** Converts a document to the tree that {@link encryptDocument} takes. */
export function toSecretTree(value: ClientConfig | SigningConfig): SecretMap {
  return fromPlain(value) as JsonMap;
}

/** Returns the public keys of the secret keys in a signing document. */
export function publicKeysOf({ secretKeys }: SigningConfig): string[] {
  return secretKeys.map((key) => formatPublicKey(parseSecretKey(key).publicKey));
}

function isSecretKey(text: string): boolean {
  try {
    parseSecretKey(text);
    return true;
  } catch {
    return false;
  }
}
