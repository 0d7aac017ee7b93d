/**
 * Replaces `@azure/identity` in the bundle. In Azure Functions one request returns a token of the
 * managed identity. The library's other sources of credentials make up a third of the bundle.
 *
 * @see https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
 */
import type { AccessToken, TokenCredential } from '@azure/identity';

import * as z from 'zod';

import { NicheError, quote } from '../../core/errors.ts';

/** The version of the endpoint's API. */
const apiVersion = '2019-08-01';
/** For one response, in milliseconds. */
const timeoutMs = 10_000;
/** A token with less time left than this is replaced, in milliseconds. */
const minLifetimeMs = 5 * 60_000;

const tokenResponse = z.object({
  access_token: z.string().min(1),
  /** In seconds since 1970. */
  expires_on: z.coerce.number(),
});

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
    const known = this.#tokens.get(resource);
    if (known !== undefined) {
      const token = await known;
      if (token.expiresOnTimestamp - Date.now() > minLifetimeMs) return token;
    }
    const requested = requestToken(resource);
    this.#tokens.set(resource, requested);
    // The next call must try again after a failure.
    requested.catch(() => this.#tokens.delete(resource));
    return requested;
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
  let body: unknown;
  try {
    response = await fetch(url, {
      headers: { 'X-IDENTITY-HEADER': secret },
      // A redirect would take the secret header to another server.
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    });
    body = response.ok ? await response.json() : undefined;
  } catch (cause) {
    throw failed('storage-unavailable', 'no valid response from the identity endpoint', cause);
  }
  if (!response.ok) {
    const isDown = response.status >= 500 || response.status === 429;
    throw failed(
      isDown ? 'storage-unavailable' : 'storage-denied',
      `the identity endpoint returned status ${response.status}`,
    );
  }
  const { data } = tokenResponse.safeParse(body);
  if (data === undefined) {
    throw failed('storage-unavailable', 'the response of the identity endpoint has no token');
  }
  return { token: data.access_token, expiresOnTimestamp: data.expires_on * 1000 };
}
