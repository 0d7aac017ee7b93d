import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';

import { readConfig } from '../../core/cache/config.ts';
import { cacheControlOf, contentTypeOf } from '../../core/cache/layout.ts';
import { isNicheError } from '../../core/errors.ts';
import type { ObjectInfo, StoredObject } from '../../core/storage/bucket.ts';
import type { ObjectReader } from '../../core/storage/bucket.ts';
import type { ByteRange } from '../../core/storage/range.ts';
import { etagOf, isUnchanged, parseRange } from './conditions.ts';
import { landingText } from './landing.ts';
import { parseTarget } from './target.ts';

/**
 * Responds to one request from the cache whose public root is `reader`. Resolves once the response is
 * sent.
 *
 * @param signal aborts when the client disconnects
 * @throws NicheError with the codes of storage, also after a part of the response was sent
 */
export async function respond(
  reader: ObjectReader,
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const { method, headers } = request;
  if (method !== 'GET' && method !== 'HEAD') {
    // Closes the connection: the client may still send a body, which nobody needs.
    await sendText(response, 405, 'only GET and HEAD', { allow: 'GET, HEAD', connection: 'close' });
    return;
  }
  const target = parseTarget(request.url ?? '');
  if (target.kind === 'refused') {
    await sendText(response, target.status, target.status === 400 ? 'bad request' : 'not found');
    return;
  }
  if (target.kind === 'landing') {
    const text = landingText(await readConfig(reader), ownUrl(request));
    await sendText(response, 200, text.trimEnd(), { 'cache-control': 'no-cache' });
    return;
  }
  const { key } = target;
  const isConditional = headers['if-none-match'] !== undefined || headers.range !== undefined;
  if (method === 'HEAD' || isConditional) {
    const info = await reader.head(key, { signal });
    if (!info) {
      await sendText(response, 404, 'not found');
      return;
    }
    if (isUnchanged(headers['if-none-match'], info)) {
      await sendHead(response, 304, cachingHeaders(info));
      return;
    }
    if (method === 'HEAD') {
      await sendHead(response, 200, { ...objectHeaders(info), ...lengthOf(info) });
      return;
    }
    const range = parseRange(headers.range, headers['if-range']?.toString(), info);
    if (range === 'unsatisfiable') {
      await sendText(response, 416, 'no such range', { 'content-range': `bytes */${info.size}` });
      return;
    }
    if (range !== null && (await sendRange(reader, response, info, range, signal))) return;
  }
  const object = await reader.get(key, { signal });
  if (!object) {
    await sendText(response, 404, 'not found');
    return;
  }
  await sendBody(response, 200, object, lengthOf(object.info));
}

/** Refuses a request for a host that this server does not answer for. */
export function refuseHost(response: ServerResponse): Promise<void> {
  const text = 'unknown host: use localhost or 127.0.0.1, or pass --allow-host to niche serve';
  return sendText(response, 421, text, { 'cache-control': 'no-store', connection: 'close' });
}

/** Responds with an error of {@link respond}, or aborts a response that was begun. */
export async function respondWithError(response: ServerResponse, error: unknown): Promise<void> {
  if (response.headersSent) {
    // The client notices the abort, since the body is shorter than its declared length.
    response.destroy();
    return;
  }
  const [status, text] = describeFailure(error);
  await sendText(response, status, text, { 'cache-control': 'no-store' });
}

/** Never reports a failure as "not found": Nix caches for an hour that a path is missing. */
function describeFailure(error: unknown): readonly [status: number, text: string] {
  if (isNicheError(error, 'invalid-key')) return [404, 'not found'];
  if (isNicheError(error, 'storage-denied')) return [502, 'storage denied access'];
  if (isNicheError(error, 'storage-unavailable')) return [503, 'storage unavailable'];
  return [500, 'cannot read the cache'];
}

/** @returns whether the range was sent; an object that changed meanwhile must be sent whole */
async function sendRange(
  reader: ObjectReader,
  response: ServerResponse,
  info: ObjectInfo,
  range: ByteRange,
  signal: AbortSignal,
): Promise<boolean> {
  const part = await reader.get(info.key, { range, signal });
  if (part === null) return false;
  if (part.info.etag !== info.etag) {
    await discard(part);
    return false;
  }
  await sendBody(response, 206, part, {
    'content-length': range.end - range.start,
    'content-range': `bytes ${range.start}-${range.end - 1}/${info.size}`,
  });
  return true;
}

async function sendBody(
  response: ServerResponse,
  status: number,
  object: StoredObject,
  headers: OutgoingHttpHeaders,
): Promise<void> {
  if (response.destroyed) {
    await discard(object);
    return;
  }
  response.writeHead(status, { ...objectHeaders(object.info), ...headers });
  await pipeline(object.body, response);
}

/** Closes the body of an object that nobody reads. */
async function discard(object: StoredObject): Promise<void> {
  await object.body[Symbol.asyncIterator]().return?.();
}

function sendHead(
  response: ServerResponse,
  status: number,
  headers: OutgoingHttpHeaders,
): Promise<void> {
  response.writeHead(status, headers);
  return end(response);
}

function sendText(
  response: ServerResponse,
  status: number,
  text: string,
  headers: OutgoingHttpHeaders = {},
): Promise<void> {
  const body = Buffer.from(`${text}\n`);
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'content-length': body.length,
    'x-content-type-options': 'nosniff',
    ...headers,
  });
  return end(response, body);
}

function end(response: ServerResponse, body?: Buffer): Promise<void> {
  return new Promise((resolve) => {
    if (response.destroyed) {
      resolve();
      return;
    }
    response.once('close', resolve);
    response.end(body);
  });
}

/** Returns no length if the size is unknown: the body then ends with the connection or chunks. */
function lengthOf({ size }: ObjectInfo): OutgoingHttpHeaders {
  return size === undefined ? {} : { 'content-length': size };
}

function objectHeaders(info: ObjectInfo): OutgoingHttpHeaders {
  return {
    ...cachingHeaders(info),
    'content-type': contentTypeOf(info.key),
    'accept-ranges': 'bytes',
    'x-content-type-options': 'nosniff',
  };
}

function cachingHeaders(info: ObjectInfo): OutgoingHttpHeaders {
  const cacheControl = cacheControlOf(info.key);
  return {
    ...(info.etag === '' ? {} : { etag: etagOf(info) }),
    'last-modified': info.modified.toUTCString(),
    ...(cacheControl === undefined ? {} : { 'cache-control': cacheControl }),
  };
}

/** Returns the URL that this client used for the server. */
function ownUrl({ headers, socket }: IncomingMessage): string {
  const host = headers.host ?? '';
  const isPlain = /^[A-Za-z0-9.-]+(?::[0-9]+)?$|^\[[0-9a-f:]+\](?::[0-9]+)?$/i.test(host);
  return `http://${isPlain ? host : `127.0.0.1:${socket.localPort ?? 0}`}`;
}
