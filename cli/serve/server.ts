import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

import { isNicheError, toError } from '../../core/errors.ts';
import { listen, type Listening } from '../../core/util/listen.ts';
import type { ObjectReader } from '../../core/storage/bucket.ts';
import { respond, respondWithError } from './respond.ts';

interface ServeOptions {
  /** The cache's public root. */
  readonly reader: ObjectReader;
  readonly host: string;
  /** 0 for a free port. */
  readonly port: number;
  /** Requests in flight; further ones wait. @default 64 */
  readonly concurrency?: number;
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
  const { host, port, concurrency = 64 } = options;
  const semaphore = createSemaphore(concurrency);
  /** Requests in flight on each connection. */
  const connections = new Map<Socket, number>();
  let isClosing = false;

  const server = createServer((request, response) => {
    const { socket } = request;
    connections.set(socket, (connections.get(socket) ?? 0) + 1);
    response.once('close', () => {
      const left = (connections.get(socket) ?? 1) - 1;
      if (connections.has(socket)) connections.set(socket, left);
      if (isClosing && left === 0) socket.destroySoon();
    });
    void handle(options, semaphore, request, response);
  });
  server.on('connection', (socket) => {
    connections.set(socket, 0);
    socket.once('close', () => connections.delete(socket));
  });

  const hint = 'pass another --port, or --port 0 for a free one';
  const listening = await listen(server, { host, port, hint });
  return {
    ...listening,
    close: () =>
      new Promise((resolve) => {
        isClosing = true;
        server.close(() => {
          resolve();
        });
        // Node treats a connection before its first request as busy.
        for (const [socket, requests] of connections) if (requests === 0) socket.destroy();
      }),
  };
}

/** Limits concurrent requests; others wait in order. */
interface Semaphore {
  acquire(): Promise<void>;
  release(): void;
}

function createSemaphore(limit: number): Semaphore {
  const waiting: (() => void)[] = [];
  let free = limit;
  return {
    async acquire() {
      if (free > 0) free -= 1;
      // release() passes the slot on to the next waiter.
      else await new Promise<void>((resolve) => waiting.push(resolve));
    },
    release() {
      const next = waiting.shift();
      if (next) next();
      else free += 1;
    },
  };
}

async function handle(
  { reader, onRequest }: ServeOptions,
  semaphore: Semaphore,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const startedAt = Date.now();
  const disconnected = new AbortController();
  response.once('close', () => {
    disconnected.abort();
  });
  let error: Error | null = null;
  await semaphore.acquire();
  try {
    await respond(reader, request, response, disconnected.signal);
  } catch (thrown) {
    // A disconnected client is no error of this server. An error of storage is, even after that.
    const isOurs = isNicheError(thrown) ? thrown.code !== 'aborted' : !disconnected.signal.aborted;
    error = isOurs ? toError(thrown) : null;
    await respondWithError(response, thrown);
  } finally {
    semaphore.release();
  }
  onRequest?.({
    client: request.socket.remoteAddress ?? 'disconnected',
    method: request.method ?? '',
    url: request.url ?? '',
    status: response.statusCode,
    durationMs: Date.now() - startedAt,
    complete: response.writableFinished,
    error,
  });
}
