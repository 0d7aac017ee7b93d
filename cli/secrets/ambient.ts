import { existsSync } from 'node:fs';
import path from 'node:path';

import { environmentCredentials } from './credentials.ts';
import { homeOf, nonEmpty } from '../environment.ts';
import type { Environment } from '../environment.ts';

/** By what the SDKs of each cloud would find credentials: variables, and files below the home. */
const traces: Readonly<Record<string, { variables: readonly string[]; files: readonly string[] }>> =
  {
    's3:': {
      variables: [
        'AWS_ACCESS_KEY_ID',
        'AWS_PROFILE',
        'AWS_WEB_IDENTITY_TOKEN_FILE',
        'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
        'AWS_CONTAINER_CREDENTIALS_FULL_URI',
        'AWS_SHARED_CREDENTIALS_FILE',
        'AWS_CONFIG_FILE',
      ],
      files: ['.aws/credentials', '.aws/config'],
    },
    'azure:': {
      variables: [
        'AZURE_CLIENT_ID',
        'AZURE_FEDERATED_TOKEN_FILE',
        'IDENTITY_ENDPOINT',
        'MSI_ENDPOINT',
      ],
      files: ['.azure/azureProfile.json'],
    },
    'gs:': {
      variables: ['GOOGLE_APPLICATION_CREDENTIALS'],
      files: ['.config/gcloud/application_default_credentials.json'],
    },
  };

/**
 * Whether this machine seems to have credentials of its own for a storage. What only the network
 * could tell, as of a virtual machine's role, is left to the SDKs: asking takes seconds.
 */
export function hasAmbientCredentials(storageUrl: string, env: Environment): boolean {
  const url = URL.parse(storageUrl);
  if (url === null || url.protocol === 'file:') return true;
  if (url.searchParams.has('profile')) return true;
  if (environmentCredentials(storageUrl, env) !== undefined) return true;
  const { variables = [], files = [] } = traces[url.protocol] ?? {};
  return (
    variables.some((name) => nonEmpty(env[name]) !== undefined) ||
    files.some((file) => existsSync(path.join(homeOf(env), file)))
  );
}
