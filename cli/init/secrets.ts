import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { text as readAll } from 'node:stream/consumers';

import type { CacheConfig } from '../../core/cache/config.ts';
import {
  clientDocument,
  secretConfigVersion,
  storageCredentials,
} from '../../core/cache/secret-documents.ts';
import type { ClientConfig } from '../../core/cache/secret-documents.ts';
import { assertSeparate, encryptSecret } from '../../core/cache/keys/create.ts';
import type { SecretDocuments } from '../../core/cache/keys/create.ts';
import { NicheError, messageOf, quote } from '../../core/errors.ts';
import { describeFields } from '../../core/secrets/metadata.ts';
import type { Recipient } from '../../core/secrets/recipient.ts';
import type { StoredCredentials } from '../../core/storage/credentials.ts';
import { openProvisioner } from '../../core/storage/open/open-provision.ts';
import type { Context } from '../process/context.ts';
import { environmentCredentials } from '../secrets/credentials.ts';
import { keyringOf } from '../secrets/identities.ts';
import { nonEmpty } from '../process/environment.ts';

export interface SecretFlags {
  /** The file with the credentials; false for none. */
  readonly uploadCredentials?: string | false;
  /** The file with credentials for reading the public root. */
  readonly readCredentials?: string;
  readonly uploadDays: number;
  readonly uploadRole?: string;
  readonly unsafeShareSigningKey: boolean;
}

/** The recipients of the two secret documents of a new cache. */
export interface Readers {
  readonly clients: readonly Recipient[];
  readonly publishers: readonly Recipient[];
}

export interface NewSecrets extends SecretDocuments {
  /** The credentials for staging that clients get from the document. */
  readonly credentials?: StoredCredentials | undefined;
  /** Whether clients get access to the storage from the document. */
  readonly hasCredentials: boolean;
  /** When the SAS token that niche created for clients expires; absent if it created none. */
  readonly expires?: Date | undefined;
}

/**
 * Encrypts the secret documents of a new cache. Call it before creating anything, since a recipient
 * may be unusable.
 *
 * @param secretKey signing key, stored in a document if there are publishers
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
  if (clients.length === 0) {
    assertNoCredentialOptions(flags);
    return { signing, hasCredentials: false };
  }
  const given = await readUploadCredentials(flags.uploadCredentials, context);
  const created =
    given === undefined ? await createCredentials(config.staging, flags, context) : null;
  const credentials = given ?? created?.credentials;
  const readCredentials =
    flags.readCredentials === undefined
      ? undefined
      : await readCredentialsFile(flags.readCredentials, context);
  const value: ClientConfig = {
    version,
    storage: config.storage,
    staging: config.staging,
    ...(flags.unsafeShareSigningKey ? { private: config.private } : {}),
    ...(credentials === undefined ? {} : { credentials }),
    ...(readCredentials === undefined ? {} : { readCredentials }),
    ...(flags.uploadRole === undefined ? {} : { role: flags.uploadRole }),
  };
  const hasCredentials = credentials !== undefined || flags.uploadRole !== undefined;
  return {
    signing,
    client: await encryptSecret(value, clients, keyring),
    credentials,
    hasCredentials,
    expires: created?.expires,
  };
}

/**
 * Checks that no credentials are given that would be stored nowhere.
 *
 * @throws NicheError `usage`
 */
function assertNoCredentialOptions(flags: SecretFlags): void {
  const given = [
    ['--upload-credentials', typeof flags.uploadCredentials === 'string'],
    ['--read-credentials', flags.readCredentials !== undefined],
    ['--upload-role', flags.uploadRole !== undefined],
  ] as const;
  const [option] = given.find(([, isGiven]) => isGiven) ?? [];
  if (option === undefined) return;
  throw new NicheError('usage', `${option} needs clients who can decrypt the document`, {
    hint: 'name them with --age, --pgp, --aws-kms, --gcp-kms or --azure-kv',
  });
}

/**
 * Creates credentials for clients with the least rights.
 *
 * @returns null if the user wants none, or this machine's credentials cannot create any
 */
async function createCredentials(
  stagingUrl: string,
  { uploadCredentials, uploadRole, uploadDays, unsafeShareSigningKey }: SecretFlags,
  { env }: Context,
): Promise<{ credentials: StoredCredentials; expires: Date } | null> {
  // Clients that publish themselves need far more rights than to upload.
  const isUnwanted =
    uploadCredentials === false || uploadRole !== undefined || unsafeShareSigningKey;
  if (isUnwanted || stagingUrl.startsWith('file:')) return null;
  const expires = new Date(Date.now() + uploadDays * 86_400_000);
  const provisioner = await openProvisioner(stagingUrl, {
    credentials: environmentCredentials(stagingUrl, env),
  });
  const credentials = await provisioner.createUploadCredentials(expires);
  return credentials === null ? null : { credentials, expires };
}

/** The variable with the credentials for clients, unless a file is passed. */
const uploadCredentialsVariable = 'NICHE_UPLOAD_CREDENTIALS';

/**
 * Reads the credentials for clients, as JSON, from a file, stdin (`-`) or the environment. It never
 * takes the administrator's own credentials, which have far more rights.
 *
 * @throws NicheError `malformed-secrets`, without any of the text; `storage-denied`
 */
export async function readUploadCredentials(
  file: string | false | undefined,
  context: Context,
): Promise<ClientConfig['credentials']> {
  if (file === false) return undefined;
  if (file !== undefined) return readCredentialsFile(file, context);
  const variable = nonEmpty(context.secrets[uploadCredentialsVariable]);
  return variable === undefined ? undefined : parseCredentials(variable, uploadCredentialsVariable);
}

/** Reads storage credentials, as JSON, from a file or stdin (`-`). */
async function readCredentialsFile(file: string, context: Context): Promise<StoredCredentials> {
  return parseCredentials(await readText(file, context), file);
}

/** @throws NicheError `malformed-secrets`, without any of the text */
function parseCredentials(text: string, where: string): StoredCredentials {
  const malformed = (why: string): NicheError =>
    new NicheError('malformed-secrets', `invalid credentials in ${quote(where)}: ${why}`, {
      hint: credentialsForm,
    });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw malformed('not JSON');
  }
  const result = storageCredentials.safeParse(json);
  if (result.success) return result.data;
  throw malformed(describeFields(result.error));
}

const credentialsForm =
  'use {"kind":"s3","accessKeyId":…,"secretAccessKey":…}, {"kind":"azure","sas":…} or {"kind":"google","serviceAccount":…}';

async function readText(file: string, { cwd, stdin }: Context): Promise<string> {
  if (file === '-') return readAll(stdin);
  try {
    return await readFile(path.resolve(cwd, file), 'utf8');
  } catch (cause) {
    throw new NicheError('storage-denied', `cannot read ${quote(file)}: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/** Returns the stored access policy of a SAS token; it is not secret. */
function policyOf(credentials: StoredCredentials | undefined): string | null {
  return new URLSearchParams(credentials?.kind === 'azure' ? credentials.sas : '').get('si');
}

/** Describes the rights that the credentials for clients have or need; null if they are known. */
export async function uploadAdvice(
  config: CacheConfig,
  { hasCredentials, expires, credentials, ...documents }: NewSecrets,
): Promise<string | null> {
  if (expires !== undefined) {
    return `Created a SAS token for clients in ${clientDocument.key}. It can create, list and read blobs in
${config.staging}, but not overwrite or delete them.
It expires on ${expires.toISOString().slice(0, 10)}. To renew or revoke it, change its stored access policy
${policyOf(credentials) ?? ''} (see docs/storage/azure.md).`;
  }
  if (documents.client === undefined || hasCredentials) return null;
  if (config.staging.startsWith('file:')) return null;
  const { uploadRights } = await openProvisioner(config.staging);
  return `No credentials for clients given: clients need their own for ${config.staging}.
To add some to ${clientDocument.key}, run niche config edit, or niche init with --upload-credentials.
Allow them to create objects under staging/, and to list and read receipts/. Do not allow them to
overwrite or delete anything. For this storage:
  ${uploadRights}`;
}
