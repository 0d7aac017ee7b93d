import { parseConnectionString } from '../../core/storage/azure/credentials.ts';
import { accountUrl, isAzureItself, parseAzureUrl } from '../../core/storage/azure/url.ts';
import type { StorageCredentials } from '../../core/storage/credentials.ts';
import { nonEmpty } from '../environment.ts';
import type { Environment } from '../environment.ts';

/** The names that Azure's own command line reads; its SDKs read none of them. */
const variable = {
  connectionString: 'AZURE_STORAGE_CONNECTION_STRING',
  account: 'AZURE_STORAGE_ACCOUNT',
  key: 'AZURE_STORAGE_KEY',
  sas: 'AZURE_STORAGE_SAS_TOKEN',
} as const;

/**
 * What the environment has for a storage and its SDK would not find. Each goes to the storage that
 * it is for and to no other, whatever a cache's configuration names: a connection string to its own
 * endpoint, a key to the account beside it, a signature to Azure itself.
 *
 * @returns undefined where the SDK's own chain has to do, as for S3 and Google
 * @throws NicheError `usage` for a connection string that is none; `invalid-url`
 */
export function environmentCredentials(
  storageUrl: string,
  env: Environment,
): StorageCredentials | undefined {
  if (!storageUrl.startsWith('azure:')) return undefined;
  const location = parseAzureUrl(storageUrl);
  const connectionString = nonEmpty(env[variable.connectionString]);
  if (connectionString !== undefined) {
    const { account = location.account, endpoint } = parseConnectionString(connectionString);
    const isFor = endpoint === accountUrl(location) && account === location.account;
    return isFor ? { kind: 'azure', connectionString } : undefined;
  }
  const account = nonEmpty(env[variable.account]);
  const accountKey = nonEmpty(env[variable.key]);
  if (account === location.account && accountKey !== undefined) {
    return { kind: 'azure', accountKey };
  }
  const sas = nonEmpty(env[variable.sas]);
  const isOurs = account === undefined || account === location.account;
  if (sas === undefined || !isOurs || !isAzureItself(location)) return undefined;
  return { kind: 'azure', sas };
}
