import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { text as readAll } from 'node:stream/consumers';

import type { CacheConfig } from '../../core/cache/config.ts';
import {
  privateDocument,
  secretConfigVersion,
  storageCredentials,
} from '../../core/cache/secret-documents.ts';
import type { PrivateConfig } from '../../core/cache/secret-documents.ts';
import { assertSeparate, encryptSecret } from '../../core/cache/keys/create.ts';
import type { SecretDocuments } from '../../core/cache/keys/create.ts';
import { NicheError, messageOf } from '../../core/errors.ts';
import { describeFields } from '../../core/secrets/metadata.ts';
import type { Recipient } from '../../core/secrets/recipient.ts';
import type { StoredCredentials } from '../../core/storage/credentials.ts';
import { openProvisioner } from '../../core/storage/open/open-provision.ts';
import type { Context } from '../process/context.ts';
import { environmentCredentials } from '../secrets/credentials.ts';
import { keyringOf } from '../secrets/identities.ts';
import { nonEmpty } from '../process/environment.ts';

export interface SecretFlags {
  /** Where they are; false where there are to be none. */
  readonly uploadCredentials?: string | false;
  readonly uploadDays: number;
  readonly uploadRole?: string;
  readonly unsafeShareSigningKey: boolean;
}

/** Who may read which of a new cache's secret documents. */
export interface Readers {
  readonly clients: readonly Recipient[];
  readonly publishers: readonly Recipient[];
}

export interface NewSecrets extends SecretDocuments {
  /** Whether clients are given what opens the storage. */
  readonly hasCredentials: boolean;
  /** When what was made for them is worth nothing any more; absent where nothing was made. */
  readonly expires?: Date | undefined;
}

/**
 * Encrypts the secret documents of a new cache: now, before anything is made, since a recipient may
 * turn out to be unusable.
 *
 * @param secretKey to sign with; it goes into a document if there is someone to read it
 * @throws NicheError `unsafe-recipients`, `unusable-recipient`, `malformed-secrets`
 */
export async function encryptSecrets(
  { clients, publishers }: Readers,
  config: CacheConfig,
  secretKey: string,
  flags: SecretFlags,
  context: Context,
): Promise<NewSecrets> {
  if (!flags.unsafeShareSigningKey) assertSeparate(clients, publishers);
  const keyring = keyringOf(context);
  const version = secretConfigVersion;
  const signing =
    publishers.length === 0
      ? undefined
      : await encryptSecret({ version, secretKeys: [secretKey] }, publishers, keyring);
  if (clients.length === 0) return { signing, hasCredentials: false };
  const given = await readCredentials(flags.uploadCredentials, context);
  const made = given === undefined ? await makeCredentials(config.private, flags, context) : null;
  const credentials = given ?? made?.credentials;
  const value: PrivateConfig = {
    version,
    storage: config.storage,
    private: config.private,
    ...(credentials === undefined ? {} : { credentials }),
    ...(flags.uploadRole === undefined ? {} : { role: flags.uploadRole }),
  };
  const hasCredentials = credentials !== undefined || flags.uploadRole !== undefined;
  return {
    signing,
    private: await encryptSecret(value, clients, keyring),
    hasCredentials,
    expires: made?.expires,
  };
}

/**
 * Those of clients, as narrow as may be, where this machine's own can make such.
 *
 * @returns null where they cannot, or nobody wants any
 */
async function makeCredentials(
  privateUrl: string,
  { uploadCredentials, uploadRole, uploadDays, unsafeShareSigningKey }: SecretFlags,
  { env }: Context,
): Promise<{ credentials: StoredCredentials; expires: Date } | null> {
  // Clients that publish by themselves need far more than to upload.
  const isUnwanted =
    uploadCredentials === false || uploadRole !== undefined || unsafeShareSigningKey;
  if (isUnwanted || privateUrl.startsWith('file:')) return null;
  const expires = new Date(Date.now() + uploadDays * 86_400_000);
  const provisioner = await openProvisioner(privateUrl, {
    credentials: environmentCredentials(privateUrl, env),
  });
  const credentials = await provisioner.createUploadCredentials(expires);
  return credentials === null ? null : { credentials, expires };
}

/** Where the credentials of clients are, when no file is named. */
const uploadCredentialsVariable = 'NICHE_UPLOAD_CREDENTIALS';

/**
 * Those of clients, as JSON: from a file, stdin (`-`) or the environment. Never the administrator's
 * own, which could do far more.
 *
 * @throws NicheError `malformed-secrets`, without what was read
 */
export async function readCredentials(
  file: string | false | undefined,
  context: Context,
): Promise<PrivateConfig['credentials']> {
  const variable = nonEmpty(context.secrets[uploadCredentialsVariable]);
  if (file === false || (file === undefined && variable === undefined)) return undefined;
  const where = file ?? uploadCredentialsVariable;
  const text = file === undefined ? (variable ?? '') : await readText(file, context);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new NicheError('malformed-secrets', `the upload credentials in ${where} are not JSON`, {
      hint: credentialsForm,
    });
  }
  const result = storageCredentials.safeParse(json);
  if (result.success) return result.data;
  throw new NicheError(
    'malformed-secrets',
    `the upload credentials in ${where}: ${describeFields(result.error)}`,
    { hint: credentialsForm },
  );
}

const credentialsForm =
  'expected {"kind":"s3","accessKeyId":…,"secretAccessKey":…}, {"kind":"azure","sas":…} or {"kind":"google","serviceAccount":…}';

async function readText(file: string, { cwd, stdin }: Context): Promise<string> {
  if (file === '-') return readAll(stdin);
  try {
    return await readFile(path.resolve(cwd, file), 'utf8');
  } catch (cause) {
    throw new NicheError('storage-denied', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  }
}

/**
 * What clients' credentials are, or should be, allowed, in words; null where nothing has to be said.
 */
export async function uploadAdvice(
  config: CacheConfig,
  { hasCredentials, expires, ...documents }: NewSecrets,
): Promise<string | null> {
  if (expires !== undefined) {
    return `made credentials for clients, in ${privateDocument.key}: a signature that creates, lists and reads in
${config.private}, and overwrites and deletes nothing. It is good until ${expires.toISOString().slice(0, 10)}; put
another there before, with niche config edit.`;
  }
  if (documents.private === undefined || hasCredentials) return null;
  if (config.private.startsWith('file:')) return null;
  const { uploadRights } = await openProvisioner(config.private);
  return `no credentials for clients were given: they need their own for ${config.private}. To put
some into ${privateDocument.key}: niche config edit, or init with --upload-credentials. They should be
allowed to create objects under staging/, never to overwrite or delete, and to list and get
receipts/; nothing else. Here that is:
  ${uploadRights}`;
}
