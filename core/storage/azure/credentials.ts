import { NicheError, quote } from '../../errors.ts';
import { accountUrl, isAzureItself, type AzureLocation } from './url.ts';
import type { StorageCredentials } from '../credentials.ts';

/** How requests are authorised. */
export type AzureAccess =
  | { readonly kind: 'key'; readonly key: string }
  | { readonly kind: 'sas'; readonly sas: string }
  | { readonly kind: 'anonymous' }
  /** The credentials that Azure's identity library finds on this machine. */
  | { readonly kind: 'identity' };

/**
 * @throws NicheError `usage` for credentials of another storage, or of another account than the
 *   URL's: they go to no one else
 */
export function azureAccess(
  location: AzureLocation,
  credentials: StorageCredentials | undefined,
): AzureAccess {
  if (credentials === undefined) {
    // A server that is not Azure's could use this machine's token elsewhere.
    return isAzureItself(location) ? { kind: 'identity' } : { kind: 'anonymous' };
  }
  if (credentials.kind === 'anonymous') return { kind: 'anonymous' };
  if (credentials.kind !== 'azure') {
    throw refused(`expected Azure credentials, got ${credentials.kind} credentials`);
  }
  const { accountKey, sas, connectionString } = credentials;
  const given = [accountKey, sas, connectionString].filter((value) => value !== undefined);
  if (given.length !== 1) {
    throw refused('expected exactly one of an account key, a SAS token and a connection string');
  }
  if (accountKey !== undefined) return { kind: 'key', key: accountKey };
  if (sas !== undefined) return { kind: 'sas', sas: withoutQuestionMark(sas) };
  return readConnectionString(connectionString ?? '', location);
}

/**
 * Reads a connection string.
 *
 * @throws NicheError `usage`
 */
export function parseConnectionString(text: string): {
  readonly account: string | undefined;
  readonly endpoint: string;
  readonly access: AzureAccess;
} {
  const fields = new Map(
    text
      .split(';')
      .filter((field) => field.trim() !== '')
      .map((field) => {
        const equals = field.indexOf('=');
        return [field.slice(0, Math.max(0, equals)).trim(), field.slice(equals + 1).trim()];
      }),
  );
  const isDevelopment = fields.get('UseDevelopmentStorage')?.toLowerCase() === 'true';
  const account = isDevelopment ? development.account : fields.get('AccountName');
  const key = isDevelopment ? development.key : fields.get('AccountKey');
  const sas = fields.get('SharedAccessSignature');
  const protocol = fields.get('DefaultEndpointsProtocol') ?? 'https';
  const suffix = fields.get('EndpointSuffix') ?? 'core.windows.net';
  const endpoint =
    fields.get('BlobEndpoint') ??
    (isDevelopment
      ? development.endpoint
      : account === undefined
        ? ''
        : `${protocol}://${account}.blob.${suffix}`);
  if (!URL.canParse(endpoint) || (key === undefined) === (sas === undefined)) {
    throw refused(
      'expected a connection string with AccountName or BlobEndpoint, and AccountKey or SharedAccessSignature',
      'print it with: az storage account show-connection-string --name <account>',
    );
  }
  return {
    account,
    endpoint: new URL(endpoint).href.replace(/\/+$/, ''),
    access:
      key === undefined
        ? { kind: 'sas', sas: withoutQuestionMark(sas ?? '') }
        : { kind: 'key', key },
  };
}

/** The account of Microsoft's emulators, whose key is published and protects nothing. */
const development = {
  account: 'devstoreaccount1',
  key: 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==',
  endpoint: 'http://127.0.0.1:10000/devstoreaccount1',
};

function readConnectionString(text: string, location: AzureLocation): AzureAccess {
  const { account, endpoint, access } = parseConnectionString(text);
  const wanted = accountUrl(location);
  if (endpoint !== wanted || (account !== undefined && account !== location.account)) {
    throw refused(
      `the connection string is for ${quote(endpoint)}, but the container is at ${quote(wanted)}`,
      'specify the account in azure://account/…, and another endpoint with ?endpoint=',
    );
  }
  return access;
}

function withoutQuestionMark(sas: string): string {
  return sas.replace(/^\?/, '');
}

function refused(why: string, hint?: string): NicheError {
  return new NicheError('usage', `opening an Azure container: ${why}`, {
    ...(hint === undefined ? {} : { hint }),
  });
}
