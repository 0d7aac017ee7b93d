import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';

import { isNicheError, toError } from '../../core/errors.ts';
import { listen, type Listening } from '../../core/util/listen.ts';
import { hostnameOf, isLoopback, isLoopbackHost } from '../../core/util/loopback.ts';
import type { ObjectReader } from '../../core/storage/bucket.ts';
import { trackConnections } from '../../core/util/connections.ts';
import { refuseHost, respond, respondWithError } from './respond.ts';
import { createSlots } from './slots.ts';
import type { Slots } from './slots.ts';

interface ServeOptions {
  /** The cache's public root. */
  readonly reader: ObjectReader;
  readonly host: string;
  /** 0 for a free port. */
  readonly port: number;
  /**
   * Host names that clients may use besides those of this machine. On a loopback address, any other
   * `Host` is refused: a web page whose name leads here (DNS rebinding) could read a private cache.
   *
   * @default none on a loopback address, any on another one
   */
  readonly allowedHosts?: readonly string[];
  /** Requests in flight; further ones wait. @default 64 */
  readonly concurrency?: number;
  /** Requests in flight of one client address. @default half of `concurrency` */
  readonly clientConcurrency?: number;
  /** For a client to take some of the data that waits for it, in milliseconds. @default 15,000 */
  readonly stallTimeoutMs?: number;
  /** Called after each request. */
  readonly onRequest?: (access: Access) => void;
}

/** The log record of one request. */
export interface Access {
  readonly client: string;
  readonly method: string;
  readonly url: string;
  readonly status: number;
  readonly durationMs: number;
  /** Whether the client received the whole response. */
  readonly complete: boolean;
  /** The error of this server, not of the client. */
  readonly error: Error | null;
}

/** A cache that is being served. */
export interface CacheServer extends Listening {
  /** Accepts no more requests, and resolves once those in flight are done. */
  close(): Promise<void>;
}

/**
 * Serves a cache over HTTP.
 *
 * @throws NicheError `usage` when it cannot listen on the host and port
 */
export async function serveCache(options: ServeOptions): Promise<CacheServer> {
  const { host, port, concurrency = 64, stallTimeoutMs = 15_000 } = options;
  const { clientConcurrency = Math.ceil(concurrency / 2) } = options;
  const slots = createSlots({ total: concurrency, perClient: clientConcurrency });
  let isAllowed: IsAllowed = () => true;

  const server = createServer((request, response) => {
    void handle(options, slots, isAllowed, request, response);
  });
  const connections = trackConnections(server, stallTimeoutMs);
  const hint = 'pass another --port, or --port 0 for a free one';
  const listening = await listen(server, { host, port, hint });
  isAllowed = hostRule(listening.address, options.allowedHosts ?? []);
  return {
    ...listening,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        connections.endWhenIdle();
      }),
  };
}

/** Whether the server answers requests with this `Host` header. */
type IsAllowed = (header: string | undefined) => boolean;

function hostRule(address: string, allowedHosts: readonly string[]): IsAllowed {
  if (!isLoopback(address) && allowedHosts.length === 0) return () => true;
  const allowed = new Set(allowedHosts.map((name) => name.toLowerCase()));
  return (header) => {
    const hostname = hostnameOf(header);
    return hostname !== null && (isLoopbackHost(hostname) || allowed.has(hostname));
  };
}

async function handle(
  { reader, onRequest }: ServeOptions,
  slots: Slots,
  isAllowed: IsAllowed,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const startedAt = Date.now();
  const client = request.socket.remoteAddress ?? 'disconnected';
  const disconnected = new AbortController();
  response.once('close', () => {
    disconnected.abort();
  });
  let error: Error | null = null;
  const release = await slots.acquire(client);
  try {
    if (isAllowed(request.headers.host)) {
      await respond(reader, request, response, disconnected.signal);
    } else await refuseHost(response);
  } catch (thrown) {
    // A disconnected client is no error of this server. An error of storage is, even after that.
    const isOurs = isNicheError(thrown) ? thrown.code !== 'aborted' : !disconnected.signal.aborted;
    error = isOurs ? toError(thrown) : null;
    await respondWithError(response, thrown);
  } finally {
    release();
  }
  onRequest?.({
    client,
    method: request.method ?? '',
    url: request.url ?? '',
    status: response.statusCode,
    durationMs: Date.now() - startedAt,
    complete: response.writableFinished,
    error,
  });
}
