import http, { type Agent, type IncomingMessage } from 'node:http';
import https from 'node:https';
import { Readable } from 'node:stream';

import { parseJson } from './json.ts';
import { proxyAgentFor } from './network.ts';

export interface HttpRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string | AsyncIterable<Uint8Array> | undefined;
  readonly signal?: AbortSignal | undefined;
  /** For direct connections. @default Node’s own, which keeps them alive */
  readonly agent?: Agent | undefined;
  /**
   * The longest time without a byte in either direction, in milliseconds, for a request that takes the
   * server long. @default the transport’s
   */
  readonly idleTimeoutMs?: number | undefined;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Read it to its end or destroy it, else the connection stays open. */
  readonly body: Readable;
}

/** Sends one request. */
export type Transport = (request: HttpRequest) => Promise<HttpResponse>;

export interface TransportOptions {
  /**
   * The longest time from the end of the request to the end of the response's headers, in
   * milliseconds, for a server that sends them byte by byte. @default four times the idle timeout
   */
  readonly headersTimeoutMs?: number | undefined;
  /** The longest time to make a connection, in milliseconds. @default the idle timeout */
  readonly connectTimeoutMs?: number | undefined;
}

/** The server sent nothing, or no whole response, for too long. */
class TimeoutError extends Error {
  override readonly name = 'TimeoutError';
  readonly code = 'ETIMEDOUT';
}

/**
 * Returns a transport that ends a request, from the connection to the body's last chunk, when nothing
 * has moved for the idle timeout in either direction. A slow reader or a slow source does not count.
 */
export function createTransport(
  defaultIdleMs: number,
  { headersTimeoutMs: headersMs, connectTimeoutMs = defaultIdleMs }: TransportOptions = {},
): Transport {
  return (request) =>
    new Promise((resolve, reject) => {
      const { method, url, headers, body, signal, idleTimeoutMs = defaultIdleMs } = request;
      const agent = proxyAgentFor(url) ?? request.agent;
      const headersTimeoutMs = headersMs ?? 4 * idleTimeoutMs;
      let response: IncomingMessage | undefined;
      const isSecure = url.startsWith('https:');
      const outgoing = (isSecure ? https : http).request(url, {
        method,
        headers: { ...headers },
        ...(agent === undefined ? {} : { agent }),
        ...(signal === undefined ? {} : { signal }),
        // Also of a proxy, before there is a socket.
        timeout: connectTimeoutMs,
      });

      const fail = (why: string): void => {
        const error = new TimeoutError(why);
        response?.destroy(error);
        outgoing.destroy(error);
      };
      let headersTimer: NodeJS.Timeout | undefined;
      outgoing.on('finish', () => {
        // A response may come before the end of the request.
        if (response !== undefined) return;
        headersTimer = setTimeout(() => {
          fail(`the headers of the response took longer than ${headersTimeoutMs} ms`);
        }, headersTimeoutMs);
      });
      outgoing.on('socket', (socket) => {
        const onTimeout = (): void => {
          const isReaderAway = response !== undefined && response.readableLength > 0;
          const isSourceAway = !outgoing.writableEnded && outgoing.writableLength === 0;
          if (isReaderAway || isSourceAway) {
            // A timer that has fired does not restart by itself.
            socket.setTimeout(idleTimeoutMs);
            return;
          }
          fail(`no data was sent or received for ${idleTimeoutMs} ms`);
        };
        socket.setTimeout(socket.connecting ? connectTimeoutMs : idleTimeoutMs);
        // A socket that is used again would keep the listener.
        if (socket.connecting) socket.once('connect', () => socket.setTimeout(idleTimeoutMs));
        socket.on('timeout', onTimeout);
        // It may serve another request next.
        outgoing.on('close', () => socket.off('timeout', onTimeout));
      });
      outgoing.on('error', reject);
      // For example after a switch to another protocol, which emits no other event.
      outgoing.on('close', () => {
        clearTimeout(headersTimer);
        reject(new Error('the connection was closed without a response'));
      });
      outgoing.on('response', (message) => {
        response = message;
        clearTimeout(headersTimer);
        resolve({
          status: message.statusCode ?? 0,
          headers: plainHeaders(message),
          body: message,
        });
      });

      if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) {
        outgoing.end(body);
        return;
      }
      const source = Readable.from(body, { objectMode: false });
      source.on('error', (error) => outgoing.destroy(error));
      outgoing.on('close', () => source.destroy());
      source.pipe(outgoing);
    });
}

function plainHeaders({ headers }: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.join(', ') : (value ?? ''),
    ]),
  );
}

/** The longest time in which a body that is read whole has to arrive, in milliseconds. */
const maxReadMs = 120_000;

/**
 * Returns a response's body. Cuts it after `maxBytes` and then closes the connection. Throws the
 * connection's error, with the code ETIMEDOUT for a body that takes longer than `maxMs`.
 */
export async function readBytes(
  body: Readable,
  maxBytes: number,
  maxMs = maxReadMs,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  const timer = setTimeout(() => {
    body.destroy(new TimeoutError(`the body of the response took longer than ${maxMs} ms`));
  }, maxMs);
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > maxBytes) break;
    }
  } finally {
    clearTimeout(timer);
  }
  return Buffer.concat(chunks).subarray(0, maxBytes);
}

/** Does the same as {@link readBytes}, and decodes UTF-8. */
export async function readText(body: Readable, maxBytes: number, maxMs?: number): Promise<string> {
  return (await readBytes(body, maxBytes, maxMs)).toString('utf8');
}

/** The longest body that is read only to keep the connection, in bytes. */
const maxDiscardedBytes = 64 * 1024;

/** The longest time to wait for such a body, in milliseconds; a new connection takes less. */
const maxDiscardMs = 1_000;

/**
 * Reads the rest of a body that is not needed, so that its connection can serve the next request.
 * Closes the connection where that takes too long.
 */
export async function discardBody({ body }: Pick<HttpResponse, 'body'>): Promise<void> {
  // The status has arrived, so a body that breaks off changes nothing.
  await readText(body, maxDiscardedBytes, maxDiscardMs).catch(() => undefined);
}

/**
 * Returns a response's body as JSON.
 *
 * @throws SyntaxError if it is not JSON, or longer than `maxBytes`. Its message contains nothing of
 *   the body, which may hold a secret
 */
export async function readJson(body: Readable, maxBytes: number): Promise<unknown> {
  const text = await readText(body, maxBytes);
  try {
    return parseJson(text);
  } catch {
    throw new SyntaxError('the response is not JSON');
  }
}
