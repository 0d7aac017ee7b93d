import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { NicheError, messageOf, quote } from '../errors.ts';

/** Where to listen. */
export interface ListenOptions {
  readonly host: string;
  /** 0 for any free port. */
  readonly port: number;
  /** How the user chooses another address or port. */
  readonly hint: string;
}

/** Where a server listens. */
export interface Listening {
  /** Without a trailing slash. */
  readonly url: string;
  /** The IP address of the socket. */
  readonly address: string;
}

/**
 * Starts a server.
 *
 * @throws NicheError `usage` when it cannot listen there
 */
export async function listen(
  server: Server,
  { host, port, hint }: ListenOptions,
): Promise<Listening> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      const message = `cannot listen on ${quote(host)}, port ${port}: ${messageOf(cause)}`;
      reject(new NicheError('usage', message, { cause, hint }));
    });
    server.listen(port, host, resolve);
  });
  // The address of a TCP server is never a pipe's name.
  const { address, family, port: bound } = server.address() as AddressInfo;
  return { url: `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`, address };
}
