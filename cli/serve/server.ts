import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

import { isNicheError, toError } from '../../core/errors.ts';
import { listen, type Listening } from '../../core/util/listen.ts';
import type { ObjectReader } from '../../core/storage/bucket.ts';
import { answer, answerFailure } from './answer.ts';

interface ServeOptions {
  /** The cache's public root. */
  readonly reader: ObjectReader;
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Requests answered at once; more wait. @default 64 */
  readonly concurrency?: number;
  /** Told of each request once it is over. */
  readonly onRequest?: (access: Access) => void;
}

/** What became of one request. */
export interface Access {
  readonly client: string;
  readonly method: string;
  readonly url: string;
  readonly status: number;
  readonly durationMs: number;
  /** Whether the client got the whole answer. */
  readonly complete: boolean;
  /** What went wrong on our side. */
  readonly error: Error | null;
}

/** A cache that is being served. */
export interface CacheServer extends Listening {
  /** Takes nothing more, and resolves once what is under way has been answered. */
  close(): Promise<void>;
}

/**
 * Serves a cache over HTTP.
 *
 * @throws NicheError `usage` when nothing can listen there
 */
export async function serveCache(options: ServeOptions): Promise<CacheServer> {
  const { host, port, concurrency = 64 } = options;
  const gate = createGate(concurrency);
  /** Requests under way on each connection. */
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
    void handle(options, gate, request, response);
  });
  server.on('connection', (socket) => {
    connections.set(socket, 0);
    socket.once('close', () => connections.delete(socket));
  });

  const hint = 'choose another with --port; 0 takes a free one';
  const listening = await listen(server, { host, port, hint });
  return {
    ...listening,
    close: () =>
      new Promise((resolve) => {
        isClosing = true;
        server.close(() => {
          resolve();
        });
        // Node counts a connection that has yet to send its first request as busy.
        for (const [socket, requests] of connections) if (requests === 0) socket.destroy();
      }),
  };
}

/** Lets so many in at once; the others wait in their order. */
interface Gate {
  enter(): Promise<void>;
  leave(): void;
}

function createGate(places: number): Gate {
  const waiting: (() => void)[] = [];
  let free = places;
  return {
    async enter() {
      if (free > 0) free -= 1;
      // Whoever leaves hands over its place.
      else await new Promise<void>((resolve) => waiting.push(resolve));
    },
    leave() {
      const next = waiting.shift();
      if (next) next();
      else free += 1;
    },
  };
}

async function handle(
  { reader, onRequest }: ServeOptions,
  gate: Gate,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const startedAt = Date.now();
  const gone = new AbortController();
  response.once('close', () => {
    gone.abort();
  });
  let error: Error | null = null;
  await gate.enter();
  try {
    await answer(reader, request, response, gone.signal);
  } catch (thrown) {
    // A client that has gone is no failure of ours; what storage throws is, whatever came first.
    const isOurs = isNicheError(thrown) ? thrown.code !== 'aborted' : !gone.signal.aborted;
    error = isOurs ? toError(thrown) : null;
    await answerFailure(response, thrown);
  } finally {
    gate.leave();
  }
  onRequest?.({
    client: request.socket.remoteAddress ?? 'gone',
    method: request.method ?? '',
    url: request.url ?? '',
    status: response.statusCode,
    durationMs: Date.now() - startedAt,
    complete: response.writableFinished,
    error,
  });
}
