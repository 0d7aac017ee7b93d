import * as z from 'zod';

import { NicheError } from '../errors.ts';
import { maxSecretDocumentBytes } from '../limits.ts';
import { formatPublicKey, parseSecretKey } from '../nix/keys.ts';
import { decryptDocument } from '../secrets/document.ts';
import type { OpenDocument } from '../secrets/document.ts';
import type { SecretMap } from '../secrets/encrypted-tree.ts';
import { fromPlain, toPlain } from '../secrets/json-tree.ts';
import type { JsonMap, JsonValue } from '../secrets/json-tree.ts';
import { describeFields } from '../secrets/metadata.ts';
import type { Identity } from '../secrets/recipient.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { privateConfigKey, signingConfigKey } from './layout.ts';
import { readObjectWithInfo } from './objects.ts';

/** The version of both secret documents that this release writes, and the newest that it reads. */
export const secretConfigVersion = 1;

const secret = z
  .string()
  .min(1)
  .max(16 * 1024);
const storageUrl = z
  .string()
  .refine((text) => URL.canParse(text) && !/[@#]/.test(text), 'expected a storage URL');

/** What opens a storage, as the documents and `--upload-credentials` have it. */
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

const privateConfig = z.strictObject({
  version: z.literal(secretConfigVersion),
  /** The public root. */
  storage: storageUrl,
  /** The private root. */
  private: storageUrl,
  /** For these two storages alone; without them, this machine's own are used. */
  credentials: storageCredentials.optional(),
  /** Assumed instead, where the document was decrypted by an identity of that cloud. */
  role: z
    .string()
    .regex(/^arn:aws[\w-]*:iam::\d+:role\/.+$/, 'expected a role')
    .optional(),
});

const signingConfig = z.strictObject({
  version: z.literal(secretConfigVersion),
  /** In Nix's own form; every one signs. */
  secretKeys: z.array(z.string().refine(isSecretKey, 'expected a secret key')).max(16),
});

/** `niche.private.json`: what a client needs to stage. */
export type PrivateConfig = z.infer<typeof privateConfig>;
/** `niche.signing.json`: what the publisher signs with. */
export type SigningConfig = z.infer<typeof signingConfig>;

/** One of the two documents. */
export interface SecretKind<T> {
  readonly key: string;
  readonly schema: z.ZodType<T>;
}

export const privateDocument: SecretKind<PrivateConfig> = {
  key: privateConfigKey,
  schema: privateConfig,
};
export const signingDocument: SecretKind<SigningConfig> = {
  key: signingConfigKey,
  schema: signingConfig,
};

/** A secret document as it lies in a cache. */
export interface StoredSecret {
  readonly text: string;
  readonly etag: string;
  /** Names it in messages. */
  readonly where: string;
}

/** @returns null when there is none */
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
 * Decrypts a secret document and checks what is in it.
 *
 * @throws NicheError what {@link decryptDocument} throws, and `malformed-secrets`, `newer-version` for
 *   what is in it; no message shows a value
 */
export async function openSecret<T>(
  { text, where }: StoredSecret,
  kind: SecretKind<T>,
  identities: readonly Identity[],
): Promise<{ value: T; document: OpenDocument }> {
  const document = await decryptDocument(text, identities, where);
  return { value: parseSecret(toPlain(document.tree as JsonValue), kind, where), document };
}

/** Checks a document's contents. */
export function parseSecret<T>(plain: unknown, { schema }: SecretKind<T>, where: string): T {
  const version = z.looseObject({ version: z.number() }).safeParse(plain).data?.version;
  if (version !== undefined && version > secretConfigVersion) {
    throw new NicheError(
      'newer-version',
      `${where} has version ${version}; this niche reads up to version ${secretConfigVersion}`,
      { hint: 'upgrade niche on this machine' },
    );
  }
  const result = schema.safeParse(plain);
  if (result.success) return result.data;
  throw new NicheError('malformed-secrets', `${where}: ${describeFields(result.error)}`);
}

/** For {@link encryptDocument}. */
export function toSecretTree(value: PrivateConfig | SigningConfig): SecretMap {
  return fromPlain(value) as JsonMap;
}

/** The public keys that belong to a signing document's secret ones. */
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
