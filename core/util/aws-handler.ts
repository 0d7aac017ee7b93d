import type { Agent } from 'node:http';
import type { fromNodeProviderChain } from '@aws-sdk/credential-providers';
import type * as Protocols from '@smithy/core/protocols';
import type { HttpHandler, HttpRequest } from '@smithy/core/protocols';
import { hasProxy } from './network.ts';
import type { Transport } from './transport.ts';

/** The used part of the AWS SDK. */
type Sdk = Pick<typeof Protocols, 'buildQueryString' | 'HttpResponse'>;

/**
 * Returns a handler that sends the AWS SDK's requests with our transport. The SDK's own handler uses no
 * proxy, and has no limit for a server that sends a byte now and then.
 *
 * @param agents make direct connections. @default Node's own
 */
export function transportHandler(
  sdk: Sdk,
  send: Transport,
  agents?: { readonly http: Agent; readonly https: Agent },
): HttpHandler {
  return {
    metadata: { handlerProtocol: 'http/1.1' },
    async handle(request, { abortSignal, requestTimeout } = {}) {
      const response = await send({
        method: request.method,
        url: urlOf(sdk, request),
        headers: request.headers,
        body: request.body as Uint8Array | string | undefined,
        signal: abortSignal as AbortSignal | undefined,
        agent: request.protocol === 'https:' ? agents?.https : agents?.http,
        // A command's option; the others have the transport's limit.
        idleTimeoutMs: requestTimeout,
      });
      const { status: statusCode, headers, body } = response;
      return { response: new sdk.HttpResponse({ statusCode, headers, body }) };
    },
    updateHttpClientConfig: () => undefined,
    httpHandlerConfigs: () => ({}),
  };
}

function urlOf(sdk: Sdk, request: HttpRequest): string {
  const { protocol, hostname, port, path, query } = request;
  const search = sdk.buildQueryString(query);
  return `${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path}${search === '' ? '' : `?${search}`}`;
}

/** A source of credentials, which the SDK calls when they are about to expire. */
type CredentialProvider = ReturnType<typeof fromNodeProviderChain>;

/**
 * Returns the SDK's usual sources of credentials, with clients that use a proxy. Without them, its
 * client for single sign-on would connect directly.
 *
 * @param profile a profile of the AWS tools
 * @returns nothing without a proxy: the SDK then has the same sources
 */
export function credentialsBehindProxy(
  requestHandler: HttpHandler,
  profile?: string,
): { readonly credentials?: CredentialProvider } {
  if (!hasProxy()) return {};
  let provider: Promise<CredentialProvider> | undefined;
  return {
    async credentials(properties) {
      provider ??= import('@aws-sdk/credential-providers').then((sdk) =>
        sdk.fromNodeProviderChain({
          clientConfig: { requestHandler },
          ...(profile === undefined ? {} : { profile }),
        }),
      );
      return (await provider)(properties);
    },
  };
}
