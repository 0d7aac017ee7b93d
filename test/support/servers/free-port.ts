import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';

/** Returns ports of 127.0.0.1 that were just free, for servers that cannot choose a port themselves. */
export async function freePorts(count: number): Promise<number[]> {
  // Opens all at once, so that no port is returned twice.
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  return Promise.all(
    servers.map(async (server) => {
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      server.close();
      await once(server, 'close');
      return port;
    }),
  );
}

/** Returns one of {@link freePorts}. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  return port!;
}
