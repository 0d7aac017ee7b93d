import type { AzureCredentials } from '../credentials.ts';
import type { Environment } from '../driver.ts';
import { parseConnectionString } from './credentials.ts';
import { accountUrl, isAzureItself, parseAzureUrl } from './url.ts';

/** The variables of Azure's own command line; its SDKs read none of them. */
const variable = {
  connectionString: 'AZURE_STORAGE_CONNECTION_STRING',
  account: 'AZURE_STORAGE_ACCOUNT',
  key: 'AZURE_STORAGE_KEY',
  sas: 'AZURE_STORAGE_SAS_TOKEN',
} as const;

/**
 * Returns the credentials for the container at `url`. Each goes only to the storage that it is for,
 * whatever a cache's configuration states: a connection string to its own endpoint, a key to its
 * account, a SAS token to Azure itself.
 *
 * @returns undefined where the SDK's own chain has to find some
 * @throws NicheError `invalid-url`; `usage` for a malformed connection string
 */
export function environmentCredentials(
  url: string,
  environment: Environment,
): AzureCredentials | undefined {
  const location = parseAzureUrl(url);
  const read = (name: string): string | undefined => {
    const value = environment[name];
    // An empty variable counts as none.
    return value === '' ? undefined : value;
  };
  const connectionString = read(variable.connectionString);
  if (connectionString !== undefined) {
    const { account = location.account, endpoint } = parseConnectionString(connectionString);
    const isFor = endpoint === accountUrl(location) && account === location.account;
    return isFor ? { kind: 'azure', connectionString } : undefined;
  }
  const account = read(variable.account);
  const accountKey = read(variable.key);
  if (account === location.account && accountKey !== undefined) {
    return { kind: 'azure', accountKey };
  }
  const sas = read(variable.sas);
  const isForAccount = account === undefined || account === location.account;
  if (sas === undefined || !isForAccount || !isAzureItself(location)) return undefined;
  return { kind: 'azure', sas };
}
