import { azureAccess } from './credentials.ts';
import type { AzureOptions } from './client.ts';
import { accountUrl, type AzureLocation } from './url.ts';
import type { AzureCredentials } from '../credentials.ts';

/** Receipts are read and listed, uploads created: nothing is overwritten or deleted. */
const uploadPermissions = 'rcl';

/**
 * Signs what lets clients stage into a private container, with the account's key; no request is sent.
 * A container's signature knows no prefixes (learn.microsoft.com, “Create a service SAS”).
 *
 * @returns null where the credentials are no account key, which alone can sign
 * @throws NicheError `usage` for credentials of another account
 */
export async function createUploadSignature(
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
