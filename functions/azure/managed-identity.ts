/**
 * Replaces `@azure/identity` in the bundle. In Azure Functions one request returns a token of the
 * managed identity. The library's other sources of credentials make up a third of the bundle.
 *
 * @see https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
 */
import type { AccessToken, TokenCredential } from '@azure/identity';

import { NicheError, quote } from '../../core/errors.ts';

/** The version of the endpoint's API. */
const apiVersion = '2019-08-01';
/** For one response, in milliseconds. */
const timeoutMs = 10_000;
/** A token with less time left than this is replaced, in milliseconds. */
const minLifetimeMs = 5 * 60_000;

interface TokenResponse {
  readonly access_token?: string;
  /** In seconds since 1970. */
  readonly expires_on?: string | number;
}

/** The function's identity: the user-assigned one of `AZURE_CLIENT_ID`, or the system-assigned one. */
export class DefaultAzureCredential implements TokenCredential {
  readonly #tokens = new Map<string, Promise<AccessToken>>();

  /**
   * Returns a token, from memory while it is valid.
   *
   * @throws NicheError `storage-denied`, `storage-unavailable`
   */
  async getToken(scopes: string | string[]): Promise<AccessToken> {
    const [scope = ''] = [scopes].flat();
    const resource = scope.replace(/\/\.default$/, '');
    const known = await this.#tokens.get(resource);
    if (known && known.expiresOnTimestamp - Date.now() > minLifetimeMs) return known;
    const token = requestToken(resource);
    this.#tokens.set(resource, token);
    // The next call must try again after a failure.
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
    throw new NicheError('storage-denied', 'requesting a token: this function has no identity', {
      hint: 'assign an identity to the function app, as infra/azure does',
    });
  }
  const url = new URL(endpoint);
  url.searchParams.set('resource', resource);
  url.searchParams.set('api-version', apiVersion);
  if (client !== undefined) url.searchParams.set('client_id', client);
  const failed = (code: 'storage-denied' | 'storage-unavailable', why: string, cause?: unknown) =>
    new NicheError(code, `requesting a token for ${quote(resource)}: ${why}`, { cause });
  let response: Response;
  let body: TokenResponse;
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    response = await fetch(url, { headers: { 'X-IDENTITY-HEADER': secret }, signal });
    body = (await response.json()) as TokenResponse;
  } catch (cause) {
    throw failed('storage-unavailable', 'no valid response from the identity endpoint', cause);
  }
  const { access_token: token, expires_on: expiresOn } = body;
  if (!response.ok || token === undefined) {
    const isDown = response.status >= 500 || response.status === 429;
    throw failed(
      isDown ? 'storage-unavailable' : 'storage-denied',
      `the identity endpoint returned status ${response.status}`,
    );
  }
  return { token, expiresOnTimestamp: Number(expiresOn) * 1000 };
}
