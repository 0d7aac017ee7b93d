import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir, readlink, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';

import { serveCache } from '../../../cli/serve/server.ts';
import type { Access, CacheServer } from '../../../cli/serve/server.ts';
import { stagingPrefix } from '../../../core/cache/layout.ts';
import { openReader } from '../../../core/cache/open.ts';
import { NicheError, isNicheError } from '../../../core/errors.ts';
import type { NicheErrorCode } from '../../../core/errors.ts';
import type { ObjectReader } from '../../../core/storage/bucket.ts';
import { serveAnswers } from '../../support/cache/http.ts';
import { makeSmallCache } from '../../support/cache/small-cache.ts';
import type { SmallCache } from '../../support/cache/small-cache.ts';
import { until } from '../../support/assert/until.ts';

interface Served extends SmallCache {
  readonly server: CacheServer;
  readonly accesses: Access[];
}

async function served(t: TestContext): Promise<Served> {
  const cache = await makeSmallCache(t);
  return { ...cache, ...(await serve(t, cache.bucket)) };
}

async function serve(
  t: TestContext,
  reader: ObjectReader,
  options: Partial<Parameters<typeof serveCache>[0]> = {},
): Promise<{ server: CacheServer; accesses: Access[] }> {
  const accesses: Access[] = [];
  const server = await serveCache({
    reader,
    host: '127.0.0.1',
    port: 0,
    onRequest: (access) => accesses.push(access),
    ...options,
  });
  t.after(() => {
    for (const socket of opened.splice(0)) socket.destroy();
    return server.close();
  });
  return { server, accesses };
}

const opened: Socket[] = [];

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

async function ask(
  url: string,
  path: string,
  options: {
    method?: string;
    headers?: Record<string, string>;
    agent?: Agent;
    localAddress?: string;
  } = {},
): Promise<Answer> {
  const asked = request(`${url}${path}`, { agent: false, ...options });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const body = await buffer(response);
  return { status: response.statusCode ?? 0, headers: response.headers, body };
}

/** Sends `bytes`, and returns the response until the server closes the connection. */
async function raw(url: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.write(bytes, 'latin1');
  return text(socket);
}

async function hasOpen(path: string): Promise<boolean> {
  const descriptors = await readdir('/proc/self/fd');
  const targets = await Promise.all(
    descriptors.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  );
  return targets.includes(path);
}

describe('a cache over HTTP', () => {
  test('sends a whole object with its headers', async (t) => {
    const { server, narKey, nar, accesses } = await served(t);
    const answer = await ask(server.url, `/${narKey}`);
    assert.equal(answer.status, 200);
    assert.ok(answer.body.equals(nar));
    assert.equal(answer.headers['content-type'], 'application/x-nix-nar');
    assert.equal(answer.headers['content-length'], String(nar.length));
    assert.equal(answer.headers['cache-control'], 'public, max-age=31536000, immutable');
    assert.equal(answer.headers['accept-ranges'], 'bytes');
    assert.match(answer.headers.etag ?? '', /^".+"$/);
    assert.ok(Number.isFinite(Date.parse(answer.headers['last-modified'] ?? '')));
    await until('a request is logged', () => accesses.length === 1);
    assert.equal(accesses[0]!.complete, true);
    assert.equal(accesses[0]!.status, 200);
  });

  test('sends the type of each kind of object', async (t) => {
    const { server, bucket } = await served(t);
    const hash = '00bgd045z0d4icpbc2yyz4gx48ak44la';
    await bucket.put(`${hash}.ls`, Buffer.from('{}'));
    await bucket.put(`log/${hash}-a.drv`, Buffer.from('built'));
    for (const [path, type] of [
      ['nix-cache-info', 'text/x-nix-cache-info'],
      ['niche.json', 'application/json'],
      [`${hash}.narinfo`, 'text/x-nix-narinfo'],
      [`${hash}.ls`, 'application/json'],
      [`log/${hash}-a.drv`, 'text/plain; charset=utf-8'],
    ] as const) {
      const answer = await ask(server.url, `/${path}`);
      assert.equal(answer.status, 200, path);
      assert.equal(answer.headers['content-type'], type);
      assert.equal(answer.headers['content-encoding'], undefined);
    }
  });

  test('serves niche.json unchanged', async (t) => {
    const { server, config } = await served(t);
    const { body, headers } = await ask(server.url, '/niche.json');
    assert.deepEqual(JSON.parse(body.toString()), config);
    assert.equal(headers['cache-control'], 'no-cache');
  });

  test('explains on the landing page how to use the cache', async (t) => {
    const { server, publicKey } = await served(t);
    const { status, body, headers } = await ask(server.url, '/');
    assert.equal(status, 200);
    assert.match(headers['content-type'] ?? '', /^text\/plain/);
    assert.ok(body.includes(publicKey));
    assert.ok(body.includes(`niche use ${server.url}`));
  });

  test('sends only headers for HEAD', async (t) => {
    const { server, narKey, nar } = await served(t);
    for (const path of [`/${narKey}`, '/niche.json']) {
      const whole = await ask(server.url, path);
      const head = await ask(server.url, path, { method: 'HEAD', headers: { range: 'bytes=0-1' } });
      assert.equal(head.status, 200);
      assert.equal(head.body.length, 0);
      for (const name of ['content-type', 'content-length', 'etag', 'last-modified'] as const) {
        assert.equal(head.headers[name], whole.headers[name]);
      }
    }
    assert.ok(nar.length > 0);
    assert.equal((await ask(server.url, '/nar/absent', { method: 'HEAD' })).status, 404);
  });

  test('sends a range', async (t) => {
    const { server, narKey, nar } = await served(t);
    const size = nar.length;
    for (const [range, start, end] of [
      ['bytes=0-0', 0, 1],
      ['bytes=17-200016', 17, 200_017],
      ['bytes=299999-', size - 1, size],
      ['bytes=-10', size - 10, size],
    ] as const) {
      const part = await ask(server.url, `/${narKey}`, { headers: { range } });
      assert.equal(part.status, 206, range);
      assert.equal(part.headers['content-range'], `bytes ${start}-${end - 1}/${size}`);
      assert.equal(part.headers['content-length'], String(end - start));
      assert.ok(part.body.equals(nar.subarray(start, end)));
    }
    const none = await ask(server.url, `/${narKey}`, { headers: { range: `bytes=${size}-` } });
    assert.equal(none.status, 416);
    assert.equal(none.headers['content-range'], `bytes */${size}`);
    const several = await ask(server.url, `/${narKey}`, { headers: { range: 'bytes=0-1,4-5' } });
    assert.equal(several.status, 200);
    assert.equal(several.body.length, size);
  });

  test('does not send an unchanged object again', async (t) => {
    const { server, bucket } = await served(t);
    const { headers } = await ask(server.url, '/niche.json');
    const etag = headers.etag!;
    for (const method of ['GET', 'HEAD']) {
      const options = { method, headers: { 'if-none-match': etag } };
      const again = await ask(server.url, '/niche.json', options);
      assert.equal(again.status, 304);
      assert.equal(again.body.length, 0);
      assert.equal(again.headers.etag, etag);
      assert.equal(again.headers['cache-control'], 'no-cache');
    }
    await bucket.put('niche.json', Buffer.from('{"changed":true}'));
    const changed = await ask(server.url, '/niche.json', { headers: { 'if-none-match': etag } });
    assert.equal(changed.status, 200);
    assert.equal(changed.body.toString(), '{"changed":true}');
    const stale = { range: 'bytes=0-1', 'if-range': etag };
    assert.equal((await ask(server.url, '/niche.json', { headers: stale })).status, 200);
  });

  test('does not find private objects', async (t) => {
    const { server, bucket } = await served(t);
    const upload = '0190163d-8694-739b-aea5-966c26f8ad91';
    const keys = [
      `${stagingPrefix}${upload}/0.json`,
      `receipts/${upload}/x.published.json`,
      'audit/2026/01/02/x.jsonl',
      'niche.signing.json',
      'blocked/00bgd045z0d4icpbc2yyz4gx48ak44la',
    ];
    for (const key of keys) {
      await bucket.put(key, Buffer.from('private'));
      const answer = await ask(server.url, `/${key}`);
      assert.equal(answer.status, 404, key);
      assert.equal(answer.body.includes('private'), false);
    }
    const name = `/log/${'a'.repeat(300)}.drv`;
    assert.equal((await ask(server.url, name)).status, 404);
  });

  test('refuses other methods', async (t) => {
    const { server, narKey, bucket } = await served(t);
    for (const method of ['PUT', 'POST', 'DELETE', 'PATCH', 'OPTIONS']) {
      const answer = await ask(server.url, `/${narKey}`, { method });
      assert.equal(answer.status, 405, method);
      assert.equal(answer.headers.allow, 'GET, HEAD');
    }
    assert.ok(await bucket.head(narKey));
  });

  test('responds to hostile requests, and to the next one', async (t) => {
    const { server } = await served(t);
    const send = (line: string): Promise<string> =>
      raw(server.url, `${line}\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
    for (const [line, status] of [
      ['GET /../../../etc/passwd HTTP/1.1', 400],
      ['GET /nar/../../etc/passwd HTTP/1.1', 400],
      ['GET /nar/%2e%2e/%2e%2e/etc/passwd HTTP/1.1', 400],
      ['GET /nar/..%2f..%2fetc%2fpasswd HTTP/1.1', 400],
      ['GET /..\\..\\etc\\passwd HTTP/1.1', 400],
      ['GET /nix-cache-info%00.narinfo HTTP/1.1', 400],
      ['GET /%c0%ae%c0%ae/ HTTP/1.1', 400],
      ['GET //etc/passwd HTTP/1.1', 404],
      ['GET /.niche-tmp/ HTTP/1.1', 404],
      ['GET http://elsewhere/nix-cache-info HTTP/1.1', 200],
      ['OPTIONS * HTTP/1.1', 405],
      [`GET /${'a'.repeat(20_000)} HTTP/1.1`, 431],
      ['GET /\u0000 HTTP/1.1', 400],
      ['nonsense', 400],
      ['GET /nix-cache-info HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked', 400],
      ['GET /nix-cache-info HTTP/1.1\r\nRange: bytes=99999999999999999999-', 200],
    ] as const) {
      const answer = await send(line);
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), line);
      assert.equal(answer.includes('root:'), false);
    }
    const pipelined = 'GET /nix-cache-info HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(2);
    assert.equal((await send(`${pipelined}GET /niche.json HTTP/1.1`)).split('StoreDir').length, 3);
    assert.equal((await ask(server.url, '/nix-cache-info')).status, 200);
  });

  test('serves many requests on one connection', async (t) => {
    const { server } = await served(t);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => {
      agent.destroy();
    });
    const ports = new Set<number | undefined>();
    for (const path of ['/nix-cache-info', '/nar/absent', '/niche.json']) {
      const asked = request(`${server.url}${path}`, { agent });
      asked.end();
      const [response] = (await once(asked, 'response')) as [IncomingMessage];
      ports.add(response.socket.localPort);
      await buffer(response);
    }
    assert.equal(ports.size, 1);
  });
});

describe('a cache whose storage fails', () => {
  const failing = (code: NicheErrorCode): ObjectReader => {
    const fail = (): Promise<never> => Promise.reject(new NicheError(code, 'secret detail'));
    return { url: 'test:', head: fail, get: fail };
  };

  for (const [code, status] of [
    ['storage-denied', 502],
    ['storage-unavailable', 503],
    ['storage-integrity', 500],
  ] as const) {
    test(`responds with ${status} to ${code}, never with 404`, async (t) => {
      const { server, accesses } = await serve(t, failing(code));
      for (const method of ['GET', 'HEAD']) {
        const answer = await ask(server.url, '/nix-cache-info', { method });
        assert.equal(answer.status, status);
        assert.equal(answer.headers['cache-control'], 'no-store');
        assert.equal(answer.body.includes('secret'), false);
      }
      assert.equal((await ask(server.url, '/')).status, status);
      await until('three requests are logged', () => accesses.length === 3);
      assert.ok(accesses.every(({ error }) => isNicheError(error, code)));
    });
  }

  test('is unavailable after its directory was deleted, not empty', async (t) => {
    const { server, directory } = await served(t);
    await rm(directory, { recursive: true });
    assert.equal((await ask(server.url, '/nix-cache-info')).status, 503);
  });

  test('aborts a response that fails halfway', async (t) => {
    const { bucket, narKey } = await makeSmallCache(t);
    const reader: ObjectReader = {
      ...bucket,
      async get(key, options) {
        const object = await bucket.get(key, options);
        if (object === null) return null;
        await object.body[Symbol.asyncIterator]().return?.();
        return {
          info: object.info,
          body: (async function* () {
            yield await Promise.resolve(Buffer.alloc(1000));
            throw new NicheError('storage-unavailable', 'the disk is gone');
          })(),
        };
      },
    };
    const { server, accesses } = await serve(t, reader);
    await assert.rejects(ask(server.url, `/${narKey}`), /aborted|reset|hang up/i);
    await until('a request is logged', () => accesses.length === 1);
    assert.equal(accesses[0]!.complete, false);
    assert.ok(isNicheError(accesses[0]!.error, 'storage-unavailable'));
  });

  test('sends an object whole if it changed meanwhile', async (t) => {
    const { bucket } = await makeSmallCache(t);
    const reader: ObjectReader = {
      ...bucket,
      async head(key, options) {
        const info = await bucket.head(key, options);
        return info && { ...info, etag: 'before' };
      },
    };
    const { server } = await serve(t, reader);
    const answer = await ask(server.url, '/niche.json', { headers: { range: 'bytes=0-1' } });
    assert.equal(answer.status, 200);
    assert.ok(answer.body.length > 2);
  });
});

describe('clients that disconnect, and closing', () => {
  /** More than the kernel buffers for a connection. */
  const bigBytes = 64 * 2 ** 20;

  async function servedBig(t: TestContext): Promise<Served & { file: string }> {
    const cache = await served(t);
    await cache.bucket.put('nar/big.nar', Buffer.alloc(bigBytes));
    return { ...cache, file: `${cache.directory}/nar/big.nar` };
  }

  const canSeeFiles = process.platform === 'linux' ? false : 'open files are listed on Linux';

  test('closes the file when the client disconnects', { skip: canSeeFiles }, async (t) => {
    const { server, file, accesses } = await servedBig(t);
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    socket.write('GET /nar/big.nar HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await once(socket, 'readable');
    assert.equal(await hasOpen(file), true);
    socket.destroy();
    await until('the file is closed', async () => !(await hasOpen(file)));
    await until('a request is logged', () => accesses.length === 1);
    assert.equal(accesses[0]!.complete, false);
    assert.equal(accesses[0]!.error, null);
    assert.equal((await ask(server.url, '/nix-cache-info')).status, 200);
  });

  test('reads only a few chunks ahead of a slow client', async (t) => {
    const { bucket } = await makeSmallCache(t);
    let taken = 0;
    const size = 2 ** 30;
    const reader: ObjectReader = {
      ...bucket,
      get: (key) =>
        Promise.resolve({
          info: { key, size, modified: new Date(0), etag: 'x' },
          body: (async function* () {
            for (; taken < size; taken += 2 ** 20) {
              yield await Promise.resolve(Buffer.alloc(2 ** 20));
            }
          })(),
        }),
    };
    const { server } = await serve(t, reader);
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    socket.write('GET /nar/big.nar HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await once(socket, 'readable');
    let before = -1;
    while (taken !== before) {
      before = taken;
      await delay(50);
    }
    assert.ok(taken < size / 4, `${taken} bytes taken for a client that reads none`);
    socket.destroy();
  });

  test('waits only for requests in flight when it closes', async (t) => {
    const { server } = await servedBig(t);
    const port = Number(new URL(server.url).port);
    const silent = connect(port, '127.0.0.1');
    await once(silent, 'connect');
    const halfway = connect(port, '127.0.0.1');
    halfway.write('GET /nix-cache-info HTTP/1.1\r\n');
    const agent = new Agent({ keepAlive: true });
    t.after(() => {
      agent.destroy();
    });
    await ask(server.url, '/nix-cache-info', { agent });
    const asked = request(`${server.url}/nar/big.nar`, { agent });
    asked.end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];

    const closed = server.close();
    await Promise.all([once(silent, 'close'), once(halfway, 'close')]);
    await assert.rejects(ask(server.url, '/nix-cache-info'), /ECONNREFUSED/);
    assert.equal((await buffer(response)).length, bigBytes);
    await closed;
  });

  test('fails when the port is in use', async (t) => {
    const { server, bucket } = await served(t);
    const port = Number(new URL(server.url).port);
    await assert.rejects(serveCache({ reader: bucket, host: '127.0.0.1', port }), (error) => {
      assert.ok(isNicheError(error, 'usage'));
      assert.match(error.message, /EADDRINUSE/);
      return true;
    });
  });

  test('limits concurrent requests', async (t) => {
    const { bucket, narKey } = await makeSmallCache(t);
    let running = 0;
    let most = 0;
    const counting: ObjectReader = {
      ...bucket,
      async get(key, options) {
        running += 1;
        most = Math.max(most, running);
        await delay(20);
        running -= 1;
        return bucket.get(key, options);
      },
    };
    const server = await serveCache({
      reader: counting,
      host: '127.0.0.1',
      port: 0,
      concurrency: 3,
      clientConcurrency: 3,
    });
    t.after(() => server.close());
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => ask(server.url, `/${narKey}`)),
    );
    assert.ok(answers.every(({ status }) => status === 200));
    assert.equal(most, 3);
  });
});

/** Opens a connection that lasts until the end of the test at most. */
function open(url: string, localAddress: string): Socket {
  const port = Number(new URL(url).port);
  const socket = connect({ port, host: '127.0.0.1', localAddress }).on('error', () => undefined);
  opened.push(socket);
  return socket;
}

/** Returns a reader whose objects have `size` bytes and wait for `delayMs`. */
function bigReader(bucket: ObjectReader, size: number, delayMs = 0): ObjectReader {
  return {
    ...bucket,
    async get(key) {
      await delay(delayMs);
      return {
        info: { key, size, modified: new Date(0), etag: 'x' },
        body: (async function* () {
          for (let sent = 0; sent < size; sent += 2 ** 20) {
            yield await Promise.resolve(Buffer.alloc(2 ** 20));
          }
        })(),
      };
    },
  };
}

describe('clients that take all they can', () => {
  const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;

  /** Opens connections that request a large object and read nothing of it. */
  async function stall(
    { url }: CacheServer,
    count: number,
    localAddress = '127.0.0.1',
  ): Promise<Socket[]> {
    const sockets = Array.from({ length: count }, () => open(url, localAddress));
    for (const socket of sockets) {
      socket.on('error', () => undefined);
      socket.write(get('/nar/big.nar'));
    }
    await Promise.all(sockets.map((socket) => once(socket, 'readable')));
    return sockets;
  }

  test('a response that makes no progress is ended, so that others are answered', async (t) => {
    const { bucket } = await makeSmallCache(t);
    const { server, accesses } = await serve(t, bigReader(bucket, 2 ** 30), {
      clientConcurrency: 64,
      stallTimeoutMs: 200,
    });
    await stall(server, 64);
    assert.equal((await ask(server.url, '/nix-cache-info', { method: 'HEAD' })).status, 200);
    await until('all are logged', () => accesses.length === 65);
    assert.equal(accesses.filter(({ complete }) => complete).length, 1);
    assert.ok(accesses.every(({ error }) => error === null));
  });

  test('one client address does not take all the slots', async (t) => {
    const { bucket } = await makeSmallCache(t);
    const { server } = await serve(t, bigReader(bucket, 2 ** 30), { stallTimeoutMs: 3_600_000 });
    await stall(server, 32, '127.0.0.2');
    const more = Array.from({ length: 64 }, () => open(server.url, '127.0.0.2'));
    for (const socket of more) socket.write(get('/nar/big.nar'));
    const answers = await Promise.all(
      Array.from({ length: 40 }, () => ask(server.url, '/nix-cache-info', { method: 'HEAD' })),
    );
    assert.ok(answers.every(({ status }) => status === 200));
  });

  test('one client address does not take all the connections', async (t) => {
    const { server } = await served(t);
    const idle = Array.from({ length: 128 }, () => open(server.url, '127.0.0.2'));
    await Promise.all(idle.map((socket) => once(socket, 'connect')));
    const refused = open(server.url, '127.0.0.2').on('error', () => undefined);
    await once(refused, 'close');
    assert.equal((await ask(server.url, '/nix-cache-info')).status, 200);
  });

  test('a connection that sends requests without end is closed', async (t) => {
    const { bucket } = await makeSmallCache(t);
    const { server } = await serve(t, bigReader(bucket, 2 ** 30));
    const socket = open(server.url, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(get('/nar/big.nar').repeat(1000));
    await once(socket.resume(), 'close');
    assert.equal((await ask(server.url, '/nix-cache-info', { method: 'HEAD' })).status, 200);
  });

  test('neither a slow storage nor a slow client counts as a stall', async (t) => {
    const { bucket } = await makeSmallCache(t);
    const size = 16 * 2 ** 20;
    const { server, accesses } = await serve(t, bigReader(bucket, size, 700), {
      stallTimeoutMs: 200,
    });
    const asked = request(`${server.url}/nar/big.nar`, { agent: false });
    asked.end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    let read = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      const before = Math.floor(read / 2 ** 20);
      read += chunk.length;
      if (Math.floor(read / 2 ** 20) > before) await delay(60);
    }
    assert.equal(read, size);
    await until('the request is logged', () => accesses.length === 1);
    assert.equal(accesses[0]!.complete, true);
  });
});

describe('the host of a request', () => {
  const status = async (server: CacheServer, host: string): Promise<number> =>
    (await ask(server.url, '/nix-cache-info', { headers: { host } })).status;

  test('must be this machine’s on a loopback address', async (t) => {
    const { server } = await served(t);
    for (const host of ['localhost', 'LOCALHOST:5000', '127.0.0.1', '127.0.0.2:1', '[::1]:5000']) {
      assert.equal(await status(server, host), 200, host);
    }
    for (const host of [
      'evil.example',
      'evil.example:5000',
      'localhost.evil.example',
      '127.0.0.1.evil.example',
      'localhost@evil.example',
      'evil.example#localhost',
      'evil.example/localhost',
      '192.0.2.1',
      '0.0.0.0',
      '[::ffff:192.0.2.1]',
      'a b$(x)',
    ]) {
      assert.equal(await status(server, host), 421, host);
    }
    const landing = await ask(server.url, '/', { headers: { host: 'evil.example' } });
    assert.equal(landing.status, 421);
    assert.equal(landing.body.includes('evil'), false);
    for (const line of ['GET /niche.json HTTP/1.0', 'GET /niche.json HTTP/1.1\r\nHost: ']) {
      assert.match(await raw(server.url, `${line}\r\n\r\n`), /^HTTP\/1\.1 421 /);
    }
  });

  test('may be one that the user allowed', async (t) => {
    const { bucket } = await makeSmallCache(t);
    const { server } = await serve(t, bucket, { allowedHosts: ['Cache.example'] });
    assert.equal(await status(server, 'cache.example:443'), 200);
    assert.equal(await status(server, '127.0.0.1'), 200);
    assert.equal(await status(server, 'evil.example'), 421);
  });

  test('may be any on an address that other machines reach', async (t) => {
    const { bucket } = await makeSmallCache(t);
    const { server } = await serve(t, bucket, { host: '0.0.0.0' });
    assert.equal(await status(server, 'cache.example'), 200);
  });
});

describe('a cache whose credentials expire', () => {
  test('responds as denied, never as missing, until they recover', async (t) => {
    let isValid = true;
    const upstream = await serveAnswers(t, (path, response) => {
      response.writeHead(path === 'nix-cache-info' && isValid ? 200 : 403).end();
    });
    const { server } = await serve(t, openReader(upstream.url));
    const path = `/${'0'.repeat(32)}.narinfo`;
    assert.equal((await ask(server.url, path)).status, 404);
    isValid = false;
    assert.equal((await ask(server.url, path)).status, 502);
    isValid = true;
    assert.equal((await ask(server.url, path)).status, 404);
  });
});
