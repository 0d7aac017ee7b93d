import { isNicheError, messageOf, NicheError } from '../../errors.ts';
import type { AzureCredentials } from '../credentials.ts';
import { azureAccess } from './credentials.ts';
import { isAzureError } from './errors.ts';
import { createAzureBucketClient, type AzureOptions, type AzureBucketClient } from './client.ts';
import { accountUrl, formatAzureUrl, type AzureLocation } from './url.ts';
import type { ProvisionedBucket, StorageProvisioner } from '../provision.ts';

/** {@link StorageProvisioner} of a container, or of a prefix of one. */
export function azureProvisioner(
  location: AzureLocation,
  options: AzureOptions,
): StorageProvisioner {
  const client = createAzureBucketClient(location, options);
  const { account, container, prefix } = location;
  return {
    url: client.url,
    bucketUrl: formatAzureUrl({ ...location, prefix: '' }),
    publicUrl: `${accountUrl(location)}/${container}/${prefix}`.replace(/\/$/, ''),
    siblingUrl: (root) => formatAzureUrl({ ...location, container: `${container}-${root}` }),
    publicAdvice: `let everyone read its blobs with: az storage container set-permission --account-name ${account} --name ${container} --public-access blob (an account allows that after: az storage account update --name ${account} --allow-blob-public-access true)`,
    uploadRights: `a SAS token for the container ${container} with the permissions read, create and list (sp=rcl), and without write and delete`,
    createUploadCredentials: (expires) => createUploadToken(location, options, expires),
    create: (isPublic) => (isPublic ? createPublic(client) : createPrivate(client)),
    resolveUrl: () => Promise.resolve(client.url),
  };
}

async function createPublic(client: AzureBucketClient): Promise<ProvisionedBucket> {
  const isNew = await create(client);
  try {
    await client.run({
      action: `making ${client.url} public`,
      attempt: async ({ container }) => {
        const { blobPublicAccess, signedIdentifiers } = await container.getAccessPolicy();
        if (blobPublicAccess !== undefined) return;
        // The request also replaces the container's stored policies, so they are sent back.
        const kept = signedIdentifiers.map(({ id, accessPolicy }) => ({ id, accessPolicy }));
        await container.setAccessPolicy('blob', kept);
      },
    });
    return { isNew };
  } catch (error) {
    if (!isNicheError(error)) throw error;
    return { isNew, notPublic: messageOf(error) };
  }
}

/** @throws NicheError `usage` for a public container */
async function createPrivate(client: AzureBucketClient): Promise<ProvisionedBucket> {
  const isNew = await create(client);
  const access = await client.run({
    action: `checking who can read ${client.url}`,
    attempt: async ({ container }) => (await container.getProperties()).blobPublicAccess,
  });
  if (access === undefined) return { isNew };
  throw new NicheError('usage', `${client.url} is public: expected a private container`, {
    hint: 'specify another container, or make this one private with --public-access off',
  });
}

/** @returns whether it was missing */
async function create(client: AzureBucketClient): Promise<boolean> {
  return client.run({
    action: `creating ${client.url}`,
    attempt: async ({ container }) => {
      try {
        await container.create();
        return true;
      } catch (error) {
        if (isAzureError(error, 'ContainerAlreadyExists')) return false;
        throw error;
      }
    },
  });
}

/** Receipts are read and listed, and uploads created; nothing is overwritten or deleted. */
const uploadPermissions = 'rcl';

/**
 * Creates a SAS token that lets clients stage into the staging container. It is signed with the
 * account key, without a request. A container's token cannot be limited to a prefix.
 *
 * @see https://learn.microsoft.com/rest/api/storageservices/create-service-sas
 * @returns null for credentials without an account key, which cannot sign
 * @throws NicheError `usage` for credentials of another account
 */
async function createUploadToken(
  location: AzureLocation,
  { credentials }: Pick<AzureOptions, 'credentials'>,
  expires: Date,
): Promise<AzureCredentials | null> {
  const access = azureAccess(location, credentials);
  if (access.kind !== 'key') return null;
  const sdk = await import('./sdk.ts');
  const isSecure = accountUrl(location).startsWith('https:');
  const sas = sdk.generateBlobSASQueryParameters(
    {
      containerName: location.container,
      permissions: sdk.ContainerSASPermissions.parse(uploadPermissions),
      expiresOn: expires,
      ...(isSecure ? { protocol: sdk.SASProtocol.Https } : {}),
    },
    new sdk.StorageSharedKeyCredential(location.account, access.key),
  );
  return { kind: 'azure', sas: sas.toString() };
}
