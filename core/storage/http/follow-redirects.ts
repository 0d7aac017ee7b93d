import { isRemotePlainHttp } from '../../util/loopback.ts';
import { discardBody } from '../../util/transport.ts';
import type { HttpRequest, HttpResponse, Transport } from '../../util/transport.ts';

/** A cache redirects once, to its storage; a few more are harmless. */
const maxRedirects = 5;

const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/**
 * Returns a transport that follows redirects of GET and HEAD requests. A redirect to another origin
 * does not get the `authorization` header. A redirect from HTTPS or from this machine does not lead to
 * plain HTTP on another one: callers trust the response as much as the URL that they requested.
 *
 * @returns the last response: still a redirect if its target is not followed, or after five others
 */
export function followRedirects(send: Transport): Transport {
  return async (request) => {
    let next: HttpRequest = request;
    let response = await send(next);
    for (let count = 0; count < maxRedirects; count += 1) {
      const url = targetOf(response, next.url);
      if (url === null) break;
      await discardBody(response);
      next = { ...next, url: url.href, headers: headersFor(url, next) };
      response = await send(next);
    }
    return response;
  };
}

/** Returns where a redirect leads, relative to `base`; null for any other response. */
function targetOf({ status, headers }: HttpResponse, base: string): URL | null {
  const location = headers['location'];
  if (!redirects.has(status) || location === undefined) return null;
  const url = URL.parse(location, base);
  if (url === null || !/^https?:$/.test(url.protocol)) return null;
  return isRemotePlainHttp(url.href) && !isRemotePlainHttp(base) ? null : url;
}

function headersFor(url: URL, { headers, url: from }: HttpRequest): HttpRequest['headers'] {
  if (url.origin === new URL(from).origin) return headers;
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name !== 'authorization'));
}
