import { NicheError, quote } from '../../errors.ts';
import { isKey } from '../keys.ts';

/** Where a container, or a prefix of one, is. */
export interface AzureLocation {
  readonly account: string;
  readonly container: string;
  /** Empty, or ends in `/`. */
  readonly prefix: string;
  /** The account's own address, without a slash at the end; absent for Azure's public cloud. */
  readonly endpoint?: string | undefined;
}

const form =
  'azure://account/container/prefix?endpoint= (the prefix and the endpoint may be left out)';

/** The hosts of Azure itself, in all of its clouds. Tokens of this machine go to no other host. */
const ownHosts =
  /\.(?:blob\.core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)|blob\.storage\.azure\.net)$/;

/**
 * Reads `azure://account/container/prefix?endpoint=`. The endpoint is the account's whole address, as
 * `BlobEndpoint` in a connection string: `https://acme.blob.core.chinacloudapi.cn`.
 *
 * @throws NicheError `invalid-url`
 */
export function parseAzureUrl(text: string): AzureLocation {
  const url = URL.parse(text);
  if (url?.protocol !== 'azure:') throw invalid(`expected ${form}`);
  if (url.username !== '' || url.password !== '') {
    throw invalid(
      'a URL holds no credentials',
      'give them by the environment, or the cache’s encrypted document',
    );
  }
  if (url.hash !== '') throw invalid(`expected ${form}, got a fragment`);
  if (!/^[a-z0-9]{3,24}$/.test(url.host)) {
    throw invalid(
      url.host === ''
        ? `the account is missing: expected ${form}`
        : `expected an account’s name of 3 to 24 lower-case letters and digits, got ${quote(url.host)}`,
    );
  }
  const [container = '', ...rest] = url.pathname.replace(/^\/+|\/+$/g, '').split('/');
  if (!isContainerName(container)) {
    throw invalid(
      container === ''
        ? `the container is missing: expected ${form}`
        : `expected a container’s name of 3 to 63 lower-case letters, digits and single dashes, got ${quote(container)}`,
    );
  }
  const prefix = rest.join('/');
  if (prefix !== '' && !isKey(prefix)) {
    throw invalid(`expected a prefix that can begin a blob’s name, got ${quote(prefix)}`);
  }
  const endpoint = endpointOf(url.searchParams);
  return {
    account: url.host,
    container,
    prefix: prefix === '' ? '' : `${prefix}/`,
    ...(endpoint === undefined ? {} : { endpoint }),
  };
}

export function formatAzureUrl({ account, container, prefix, endpoint }: AzureLocation): string {
  const path = `azure://${account}/${container}${prefix === '' ? '' : `/${prefix.slice(0, -1)}`}`;
  return endpoint === undefined ? path : `${path}?endpoint=${endpoint}`;
}

/** The account's address, without a slash at the end. */
export function accountUrl({ account, endpoint }: AzureLocation): string {
  return endpoint ?? `https://${account}.blob.core.windows.net`;
}

/** Whether the endpoint is Azure itself. */
export function isAzureItself(location: AzureLocation): boolean {
  const { protocol, hostname } = new URL(accountUrl(location));
  return protocol === 'https:' && ownHosts.test(hostname);
}

function isContainerName(text: string): boolean {
  return /^(?:\$web|[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9])$/.test(text);
}

function endpointOf(query: URLSearchParams): string | undefined {
  const unknown = [...query.keys()].find((name) => name !== 'endpoint');
  if (unknown !== undefined) {
    throw invalid(
      `expected ${form}, got the parameter ${quote(unknown)}`,
      'set a SAS token in AZURE_STORAGE_SAS_TOKEN, not in the URL',
    );
  }
  const [text, ...more] = query.getAll('endpoint');
  if (text === undefined) return undefined;
  const endpoint = URL.parse(text);
  const isPlain =
    endpoint !== null &&
    /^https?:$/.test(endpoint.protocol) &&
    endpoint.username === '' &&
    endpoint.password === '' &&
    !/[?#]/.test(text);
  if (more.length > 0 || !isPlain) {
    throw invalid(
      'expected one endpoint as https://account.blob.core.windows.net, without a user or a query',
    );
  }
  return endpoint.href.replace(/\/+$/, '');
}

/** The message leaves out the URL, which may contain a SAS token. */
function invalid(why: string, hint?: string): NicheError {
  return new NicheError('invalid-url', `opening an Azure container: ${why}`, {
    ...(hint === undefined ? {} : { hint }),
  });
}
