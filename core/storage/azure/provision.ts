import type { SignedIdentifier } from '@azure/storage-blob';
import { randomBytes } from 'node:crypto';
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
    uploadCredentialsDelayMs: policyDelayMs,
    createUploadCredentials: (expires) => createUploadToken(location, client, options, expires),
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

/** The names of niche's own policies begin with this. */
const policyPrefix = 'niche-clients-';

/** How long a new policy may take to become active, in milliseconds: twice what Azure documents. */
const policyDelayMs = 60_000;

/** Azure's limit on the stored access policies of a container. */
const maxPolicies = 5;

/**
 * Creates a SAS token that lets clients stage into the staging container. The account key signs it. Its
 * rights and its expiry are in a stored access policy of its own, so an administrator can revoke or
 * renew it alone. A container's token cannot be limited to a prefix.
 *
 * @see https://learn.microsoft.com/rest/api/storageservices/define-stored-access-policy
 * @returns null for credentials without an account key, which cannot sign
 * @throws NicheError `usage` for credentials of another account, or a container with too many
 *   policies; `storage-denied`, `storage-unavailable`
 */
async function createUploadToken(
  location: AzureLocation,
  client: AzureBucketClient,
  { credentials }: Pick<AzureOptions, 'credentials'>,
  expires: Date,
): Promise<AzureCredentials | null> {
  const access = azureAccess(location, credentials);
  if (access.kind !== 'key') return null;
  const policy = policyPrefix + randomBytes(4).toString('hex');
  await createPolicy(location, client, policy, expires);
  const sdk = await import('./sdk.ts');
  const isSecure = accountUrl(location).startsWith('https:');
  const sas = sdk.generateBlobSASQueryParameters(
    {
      containerName: location.container,
      identifier: policy,
      ...(isSecure ? { protocol: sdk.SASProtocol.Https } : {}),
    },
    new sdk.StorageSharedKeyCredential(location.account, access.key),
  );
  return { kind: 'azure', sas: sas.toString() };
}

/** Adds a stored access policy to the container, and removes the expired ones of niche. */
async function createPolicy(
  { account, container: name }: AzureLocation,
  client: AzureBucketClient,
  id: string,
  expiresOn: Date,
): Promise<void> {
  const action = `creating a stored access policy of ${client.url}`;
  await client.run({
    action,
    attempt: async ({ container }) => {
      const { blobPublicAccess, signedIdentifiers } = await container.getAccessPolicy();
      const kept = signedIdentifiers
        .map(({ id: each, accessPolicy }) => ({ id: each, accessPolicy }))
        // A retry would find the policy of the attempt before.
        .filter((policy) => policy.id !== id && !isExpiredPolicy(policy));
      if (kept.length >= maxPolicies) {
        throw new NicheError(
          'usage',
          `${action} failed: it has ${maxPolicies}, which is the limit`,
          {
            hint: `list them with: az storage container policy list --account-name ${account} --container-name ${name}`,
          },
        );
      }
      const accessPolicy = { permissions: uploadPermissions, expiresOn };
      await container.setAccessPolicy(blobPublicAccess, [...kept, { id, accessPolicy }]);
    },
  });
}

function isExpiredPolicy({ id, accessPolicy }: SignedIdentifier): boolean {
  const { expiresOn } = accessPolicy;
  return id.startsWith(policyPrefix) && expiresOn !== undefined && expiresOn < new Date();
}
