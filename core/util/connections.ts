import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/** All connections of a server. */
const maxConnections = 1024;
/** Connections of one client address. Nix opens up to 25. */
const maxClientConnections = 128;
/** Requests on one connection that are sent without waiting for responses. Nix sends one. */
const maxPipelined = 16;

/** The connections of a server, with bounds that keep one client from shutting out others. */
export interface Connections {
  /** Closes each connection once it has no request in flight. */
  endWhenIdle(): void;
}

/**
 * Tracks the connections of a server. Closes a connection over the bounds above, and one whose client
 * takes none of the data that waits for it, or sends no request, for `stallTimeoutMs`. Time that the
 * server itself takes does not count.
 */
export function trackConnections(server: Server, stallTimeoutMs: number): Connections {
  /** Requests in flight on each connection. */
  const inFlight = new Map<Socket, number>();
  let isEnding = false;

  server.maxConnections = maxConnections;
  server.setTimeout(stallTimeoutMs, (socket) => {
    const waitsForServer = (inFlight.get(socket) ?? 0) > 0 && socket.writableLength === 0;
    if (waitsForServer) socket.setTimeout(stallTimeoutMs);
    else socket.destroy();
  });
  server.on('connection', (socket) => {
    const isFromClient = (other: Socket): boolean => other.remoteAddress === socket.remoteAddress;
    if ([...inFlight.keys()].filter(isFromClient).length >= maxClientConnections) {
      socket.destroy();
      return;
    }
    inFlight.set(socket, 0);
    socket.once('close', () => inFlight.delete(socket));
  });
  // Before the server's own listener, which responds.
  server.prependListener('request', ({ socket }, response) => {
    const requests = (inFlight.get(socket) ?? 0) + 1;
    inFlight.set(socket, requests);
    if (requests > maxPipelined) socket.destroy();
    response.once('close', () => {
      const left = (inFlight.get(socket) ?? 1) - 1;
      if (inFlight.has(socket)) inFlight.set(socket, left);
      if (isEnding && left === 0) socket.destroySoon();
    });
  });
  return {
    endWhenIdle() {
      isEnding = true;
      // Node treats a connection before its first request as busy.
      for (const [socket, requests] of inFlight) if (requests === 0) socket.destroy();
    },
  };
}
