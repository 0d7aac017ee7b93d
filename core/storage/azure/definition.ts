import type { StorageDriver } from '../driver.ts';
import { openAzureBucket } from './driver.ts';
import { environmentCredentials } from './environment.ts';
import { parseAzureUrl } from './url.ts';

/** Azure Blob Storage. */
export const azureDriver: StorageDriver = {
  protocol: 'azure:',
  example: 'azure://account/container',
  open: openAzureBucket,
  async openProvisioner(url, options) {
    const { azureProvisioner } = await import('./provision.ts');
    return azureProvisioner(parseAzureUrl(url), options);
  },
  publicHosts: [
    {
      host: /^(?<account>[a-z0-9]{3,24})\.blob\.core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)$/,
      noun: 'container',
      storageUrl: ({ bucket, prefix, account = '', host }) =>
        `azure://${account}/${bucket}${prefix}${host.endsWith('.windows.net') ? '' : `?endpoint=https://${host}`}`,
    },
  ],
  consoleHosts: [/^portal\.azure\.com$/],
  ambient: {
    variables: [
      'AZURE_CLIENT_ID',
      'AZURE_FEDERATED_TOKEN_FILE',
      'IDENTITY_ENDPOINT',
      'MSI_ENDPOINT',
    ],
    files: ['.azure/azureProfile.json'],
  },
  environmentCredentials,
};
