import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { NicheError, messageOf, quote } from '../errors.ts';

/** Where a server is to listen. */
export interface ListenOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** How the user chooses another place, a sentence without its full stop. */
  readonly hint: string;
}

/** Where a server listens. */
export interface Listening {
  /** Without a slash at its end. */
  readonly url: string;
  /** The IP address that it listens on. */
  readonly address: string;
}

/** @throws NicheError `usage` when nothing can listen there */
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
  // It listens on a TCP port, so its address is no pipe's name.
  const { address, family, port: bound } = server.address() as AddressInfo;
  return { url: `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`, address };
}
