/**
 * Stands for `@azure/identity` in the bundle. In Azure Functions a managed identity's tokens are one
 * request away; the library's ten other ways to come by one are a third of the bundle.
 *
 * @see https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
 */
import type { AccessToken, TokenCredential } from '@azure/identity';

import { NicheError, quote } from '../../core/errors.ts';

/** The version of the endpoint's interface. */
const apiVersion = '2019-08-01';
/** For the answer, in milliseconds. */
const timeoutMs = 10_000;
/** A token that ends sooner than this is not used any more, in milliseconds. */
const minLifetimeMs = 5 * 60_000;

interface TokenAnswer {
  readonly access_token?: string;
  /** In seconds since 1970. */
  readonly expires_on?: string | number;
}

/** The identity of the function: the user-assigned one that AZURE_CLIENT_ID names, else its own. */
export class DefaultAzureCredential implements TokenCredential {
  readonly #tokens = new Map<string, Promise<AccessToken>>();

  /** @throws NicheError `storage-denied`, `storage-unavailable` */
  async getToken(scopes: string | string[]): Promise<AccessToken> {
    const [scope = ''] = [scopes].flat();
    const resource = scope.replace(/\/\.default$/, '');
    const known = await this.#tokens.get(resource);
    if (known && known.expiresOnTimestamp - Date.now() > minLifetimeMs) return known;
    const token = requestToken(resource);
    this.#tokens.set(resource, token);
    // What failed is tried again by the next who asks.
    token.catch(() => this.#tokens.delete(resource));
    return token;
  }
}

async function requestToken(resource: string): Promise<AccessToken> {
  const {
    IDENTITY_ENDPOINT: endpoint,
    IDENTITY_HEADER: secret,
    AZURE_CLIENT_ID: client,
  } = process.env;
  if (endpoint === undefined || secret === undefined) {
    throw new NicheError('storage-denied', 'asking for a token: this function has no identity', {
      hint: 'assign one to the function app, as infra/azure does',
    });
  }
  const url = new URL(endpoint);
  url.searchParams.set('resource', resource);
  url.searchParams.set('api-version', apiVersion);
  if (client !== undefined) url.searchParams.set('client_id', client);
  const failed = (code: 'storage-denied' | 'storage-unavailable', why: string, cause?: unknown) =>
    new NicheError(code, `asking for a token for ${quote(resource)}: ${why}`, { cause });
  let response: Response;
  let answer: TokenAnswer;
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    response = await fetch(url, { headers: { 'X-IDENTITY-HEADER': secret }, signal });
    answer = (await response.json()) as TokenAnswer;
  } catch (cause) {
    throw failed('storage-unavailable', 'the identity endpoint gave no answer', cause);
  }
  const { access_token: token, expires_on: expiresOn } = answer;
  if (!response.ok || token === undefined) {
    const isDown = response.status >= 500 || response.status === 429;
    throw failed(
      isDown ? 'storage-unavailable' : 'storage-denied',
      `it answered ${response.status}`,
    );
  }
  return { token, expiresOnTimestamp: Number(expiresOn) * 1000 };
}
