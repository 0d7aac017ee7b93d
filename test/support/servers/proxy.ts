import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { TestContext } from 'node:test';

/** An HTTP proxy, which resolves host names that DNS does not know. */
export interface TestProxy {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  /** What it was asked to connect to so far, as `host:port`, for plain HTTP too. */
  readonly targets: readonly string[];
}

export interface TestProxyOptions {
  /** Ports of 127.0.0.1 by host name. The proxy reaches no other host. @default none */
  readonly hosts?: Readonly<Record<string, number>>;
  /** The login that it requires, as `user:password`. @default none */
  readonly login?: string;
}

/** Starts a proxy, which stops after the test. */
export async function startProxy(
  t: TestContext,
  { hosts = {}, login }: TestProxyOptions = {},
): Promise<TestProxy> {
  const targets: string[] = [];
  const sockets = new Set<Socket>();
  const expected = login === undefined ? undefined : `Basic ${btoa(login)}`;

  const server = createServer((incoming, response) => {
    const url = URL.parse(incoming.url ?? '');
    const port = url === null ? undefined : hosts[url.hostname];
    if (url === null || port === undefined) {
      targets.push(url?.host ?? '');
      response.writeHead(502).end();
      return;
    }
    targets.push(`${url.hostname}:${url.port === '' ? '80' : url.port}`);
    const path = url.pathname + url.search;
    const { method, headers } = incoming;
    const onward = request({ host: '127.0.0.1', port, path, method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    incoming.pipe(onward);
  });
  server.on('connect', ({ url = '', headers }, client: Socket) => {
    const port = hosts[url.replace(/:[0-9]+$/, '')];
    const isDenied = headers['proxy-authorization'] !== expected;
    targets.push(url);
    client.on('error', () => client.destroy());
    if (isDenied || port === undefined) {
      client.end(`HTTP/1.1 ${isDenied ? '407 Login Required' : '502 Bad Gateway'}\r\n\r\n`);
      return;
    }
    const onward = connect(port, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n');
      client.pipe(onward).pipe(client);
    });
    onward.on('error', () => client.destroy());
    client.on('close', () => onward.destroy());
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    server.close();
    for (const socket of sockets) socket.destroy();
    await once(server, 'close').catch(() => undefined);
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, targets };
}
