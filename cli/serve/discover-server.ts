import { createTransport } from '../../core/util/transport.ts';
import type { HttpResponse } from '../../core/util/transport.ts';

/** How long a server may take to respond. */
const timeoutMs = 5_000;

/**
 * Returns the storage URL of the bucket at a web address, such as
 * `s3://acme?endpoint=http://host:9000`. It recognizes the storage by its response headers, and sends
 * no credentials.
 *
 * @returns null if the server is not storage, or the address has no bucket
 */
export async function discoverStorage(url: string): Promise<string | null> {
  const { origin, pathname } = new URL(url);
  const [first, ...rest] = pathname.split('/').filter((segment) => segment !== '');
  if (first === undefined) return null;
  const headers = await requestHeaders(url);
  if (headers?.['x-amz-request-id'] !== undefined) {
    return `s3://${[first, ...rest].join('/')}?endpoint=${origin}`;
  }
  if (headers?.['x-ms-request-id'] !== undefined && rest.length > 0) {
    return `azure://${[first, ...rest].join('/')}?endpoint=${origin}/${first}`;
  }
  return null;
}

async function requestHeaders(url: string): Promise<HttpResponse['headers'] | null> {
  try {
    const send = createTransport(timeoutMs, { headersTimeoutMs: timeoutMs });
    const request = { method: 'GET', url: `${url}/nix-cache-info`, headers: {} };
    const { headers, body } = await send(request);
    body.destroy();
    return headers;
  } catch {
    return null;
  }
}
