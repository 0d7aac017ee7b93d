import type { Agent } from 'node:http';
import type { HttpHandler, HttpRequest } from '@smithy/core/protocols';
import type { Transport } from '../../util/transport.ts';
import type * as Sdk from './sdk.ts';

/**
 * Returns a handler that sends the SDK's requests with our transport. The SDK's own handler has no
 * limit for a server that sends a byte now and then.
 */
export function transportHandler(
  sdk: typeof Sdk,
  send: Transport,
  agents: { readonly http: Agent; readonly https: Agent },
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
        agent: request.protocol === 'https:' ? agents.https : agents.http,
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

function urlOf(sdk: typeof Sdk, request: HttpRequest): string {
  const { protocol, hostname, port, path, query } = request;
  const search = sdk.buildQueryString(query);
  return `${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path}${search === '' ? '' : `?${search}`}`;
}
