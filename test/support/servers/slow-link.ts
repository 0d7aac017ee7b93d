import { once } from 'node:events';
import { createServer, connect, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface SlowLink {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  stop(): Promise<void>;
}

/**
 * Forwards TCP connections to `origin`. Every byte takes half of `roundTripMs` each way, and the first
 * ones take one more round trip, as for connecting. Throughput is not limited.
 */
export async function startSlowLink(origin: string, roundTripMs: number): Promise<SlowLink> {
  const { hostname, port } = new URL(origin);
  const open = new Set<Socket>();

  /** Copies data from `from` to `to` in order, each piece with a delay. */
  function carry(from: Socket, to: Socket, setUp: Promise<unknown>): void {
    let last: Promise<unknown> = setUp;
    const later = (send: () => void): void => {
      const due = sleep(roundTripMs / 2);
      last = Promise.all([last, due]).then(send);
    };
    from.on('data', (chunk) => {
      later(() => to.write(chunk));
    });
    from.on('end', () => {
      later(() => to.end());
    });
    from.on('error', () => to.destroy());
    from.on('close', () => open.delete(from));
    open.add(from);
  }

  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    near.setNoDelay(true);
    far.setNoDelay(true);
    carry(near, far, sleep(roundTripMs));
    carry(far, near, Promise.resolve());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      server.close();
      for (const socket of open) socket.destroy();
      await once(server, 'close');
    },
  };
}
