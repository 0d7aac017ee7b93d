import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IncomingHttpHeaders } from 'node:http';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import { openHttpReader } from '../../../../core/storage/http/reader.ts';
import { collect } from '../../../support/assert/bytes.ts';
import { serveAnswers } from '../../../support/cache/http.ts';

const once = { retry: { maxAttempts: 1 } };
const twice = { retry: { maxAttempts: 2 } };

describe('reading over HTTP', () => {
  it('returns bytes, sizes and times, and null for missing objects', async (t) => {
    const { url, requests } = await serveAnswers(t, (path, response, { method }) => {
      if (path !== 'there') return response.writeHead(path === 'gone' ? 410 : 404).end();
      const headers = { 'last-modified': 'Thu, 01 Jan 2026 00:00:00 GMT', etag: '"1"' };
      return response
        .writeHead(200, { ...headers, 'content-length': 5 })
        .end(method === 'HEAD' ? undefined : 'bytes');
    });
    const reader = openHttpReader(`${url}//`, once);
    assert.equal(reader.url, url);
    const found = await reader.get('there');
    assert.ok(found);
    assert.equal(String(await collect(found.body)), 'bytes');
    assert.deepEqual(found.info, {
      key: 'there',
      size: 5,
      modified: new Date(Date.UTC(2026, 0, 1)),
      etag: '"1"',
    });
    assert.deepEqual(await reader.head('there'), found.info);
    for (const key of ['gone', 'missing']) {
      assert.equal(await reader.get(key), null);
      assert.equal(await reader.head(key), null);
    }
    const asked = requests.length;
    await assert.rejects(reader.get('../etc'), { code: 'invalid-key' });
    assert.equal(requests.length, asked);
  });

  it('retries when the server fails, and then reports the failure', async (t) => {
    let failures = 0;
    const { url, requests } = await serveAnswers(t, (path, response) => {
      failures += 1;
      if (path === 'throttled' && failures > 1) response.end('at last');
      else response.writeHead(path === 'throttled' ? 429 : 503, { 'retry-after': '0' }).end();
    });
    const found = await openHttpReader(url, twice).get('throttled');
    assert.equal(String(await collect(found!.body)), 'at last');
    await assert.rejects(openHttpReader(url, twice).get('down'), {
      code: 'storage-unavailable',
    });
    assert.deepEqual(requests, ['throttled', 'throttled', 'down', 'down']);
  });

  it('returns exactly the range, whether or not the server supports ranges', async (t) => {
    const { url } = await serveAnswers(t, (path, response) => {
      const whole = '0123456789';
      if (path === 'whole') return response.writeHead(200, { 'content-length': 10 }).end(whole);
      const start = path === 'part' ? 3 : 5;
      const headers = { 'content-range': `bytes ${start}-9/10` };
      return response.writeHead(206, headers).end(whole.slice(start));
    });
    const reader = openHttpReader(url, once);
    const range = { start: 3, end: 6 };
    for (const key of ['whole', 'part']) {
      const found = await reader.get(key, { range });
      assert.equal(found?.info.size, 10);
      assert.equal(String(await collect(found.body)), '345');
    }
    await assert.rejects(reader.get('another', { range }), { code: 'storage-unavailable' });
  });

  it('ignores a length that is not the object’s size', async (t) => {
    const packed = gzipSync('bytes');
    const { url } = await serveAnswers(t, (path, response, { headers }) => {
      if (path === 'chunked') response.flushHeaders();
      if (path === 'chunked') return response.end('bytes');
      const isAsked = headers['accept-encoding'] !== 'identity' || path === 'packed';
      response.setHeader('content-length', isAsked ? packed.length : 5);
      if (isAsked) response.setHeader('content-encoding', 'gzip');
      return response.end(isAsked ? packed : 'bytes');
    });
    const reader = openHttpReader(url, once);
    for (const [key, size] of [
      ['plain', 5],
      ['packed', undefined],
      ['chunked', undefined],
    ] as const) {
      const found = await reader.get(key);
      assert.ok(found);
      assert.equal(found.info.size, size, key);
      assert.equal(String(await collect(found.body)), 'bytes');
    }
  });

  it('releases the connection when a body is not read', async (t) => {
    const closed = Promise.withResolvers<null>();
    const { url } = await serveAnswers(t, (_, response) => {
      response.on('close', () => {
        closed.resolve(null);
      });
      response.write('some');
    });
    const found = await openHttpReader(url, once).get('endless');
    await found!.body[Symbol.asyncIterator]().return?.();
    await closed.promise;
  });

  it('does not retry refused requests', async (t) => {
    const { url, requests } = await serveAnswers(t, (_, response) => response.writeHead(400).end());
    await assert.rejects(openHttpReader(url).get('x'), { code: 'storage-unavailable' });
    await assert.rejects(openHttpReader(url).head('x'), { code: 'storage-unavailable' });
    assert.deepEqual(requests, ['x', 'x']);
  });

  it('reports an unreachable server as unavailable', async (t) => {
    const server = await serveAnswers(t, (_, response) => response.end());
    await server.close();
    await assert.rejects(openHttpReader(server.url, once).get('x'), {
      code: 'storage-unavailable',
      message: /ECONNREFUSED/,
    });
  });
});

describe('an unusual or hostile server', () => {
  it('receives an encoded plus sign, and an unchanged query', async (t) => {
    const urls: (string | undefined)[] = [];
    const { url } = await serveAnswers(t, (_, response, request) => {
      urls.push(request.url);
      response.end('log');
    });
    const reader = openHttpReader(url, once);
    await reader.head('log/gtk+-3.0.drv');
    await reader.head('nar/0.nar?hash=1');
    assert.deepEqual(urls, ['/log/gtk%2B-3.0.drv', '/nar/0.nar?hash=1']);
  });

  it('cannot make an object look empty by refusing its range', async (t) => {
    const { url } = await serveAnswers(t, (_, response, { method }) => {
      if (method === 'HEAD') response.writeHead(200, { 'content-length': 5 }).end();
      else response.writeHead(416).end();
    });
    const reader = openHttpReader(url, once);
    const unavailable = { code: 'storage-unavailable' };
    await assert.rejects(reader.get('x'), unavailable);
    await assert.rejects(reader.get('x', { range: { start: 4 } }), unavailable);
    const beyond = await reader.get('x', { range: { start: 5, end: 9 } });
    assert.equal((await collect(beyond!.body)).length, 0);
  });

  it('cannot return a range of an encoded object as a range of the object', async (t) => {
    const packed = gzipSync('0123456789');
    const { url } = await serveAnswers(t, (_, response) => {
      const headers = {
        'content-encoding': 'gzip',
        'content-range': `bytes 0-9/${packed.length}`,
        etag: '"1"',
      };
      response.writeHead(206, headers).end(packed.subarray(0, 10));
    });
    const reading = openHttpReader(url, once).get('x', { range: { start: 0, end: 10 } });
    await assert.rejects(reading, { code: 'storage-unavailable' });
  });

  it('cannot make a truncated body look complete with an absurd size', async (t) => {
    const { url } = await serveAnswers(t, (_, response) => {
      const headers = { 'content-range': `bytes 0-9/${'9'.repeat(400)}` };
      response.writeHead(206, headers).end('0123456789');
    });
    await assert.rejects(openHttpReader(url, once).get('x'), { code: 'storage-unavailable' });
  });

  it('does not delay a result that its status determines', async (t) => {
    const { url } = await serveAnswers(t, (_, response) => {
      response.writeHead(404);
      const timer = setInterval(() => response.write('.'), 50);
      response.on('close', () => {
        clearInterval(timer);
      });
    });
    const started = performance.now();
    assert.equal(await openHttpReader(url, once).get('x'), null);
    assert.ok(performance.now() - started < 10_000);
  });

  it('cannot switch to another protocol', async (t) => {
    const { url } = await serveAnswers(t, (_, response) => {
      response.socket?.end(
        'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n',
      );
    });
    await assert.rejects(openHttpReader(url, once).get('x'), { code: 'storage-unavailable' });
  });
});

describe('a status of 401 or 403', () => {
  it('means denied', async (t) => {
    const { url, requests } = await serveAnswers(t, (path, response) => {
      response.writeHead(path === 'login' ? 401 : 403).end();
    });
    const denied = { code: 'storage-denied' };
    await assert.rejects(openHttpReader(url).get('x'), denied);
    await assert.rejects(openHttpReader(url).head('login'), {
      ...denied,
      message: /requires a login/,
    });
    assert.deepEqual(requests, ['x', 'login']);
  });
});

describe('a redirect', () => {
  it('is followed, without credentials on another origin', async (t) => {
    const seen: (string | undefined)[] = [];
    const storage = await serveAnswers(t, (_, response, { headers }) => {
      seen.push(headers.authorization);
      response.end('bytes');
    });
    const { url } = await serveAnswers(t, (path, response, { headers }) => {
      seen.push(headers.authorization);
      const location = path === 'first' ? '/second' : `${storage.url}/third`;
      response.writeHead(302, { location }).end('moved');
    });
    const reader = openHttpReader(url, { ...once, login: { login: 'me', password: 'secret' } });
    const found = await reader.get('first');
    assert.equal(String(await collect(found!.body)), 'bytes');
    const basic = `Basic ${Buffer.from('me:secret').toString('base64')}`;
    assert.deepEqual(seen, [basic, basic, undefined]);
  });

  it('from this machine does not lead to plain HTTP on another one', async (t) => {
    const storage = await serveAnswers(t, (_, response) => response.end('forged'));
    // No loopback address, but it leads to this machine.
    const remote = storage.url.replace('127.0.0.1', '0.0.0.0');
    const { url } = await serveAnswers(t, (_, response) => {
      response.writeHead(302, { location: `${remote}/niche.json` }).end();
    });
    await assert.rejects(openHttpReader(url, once).get('niche.json'), {
      code: 'storage-unavailable',
    });
    assert.deepEqual(storage.requests, []);
  });

  it('fails when it loops or has no target', async (t) => {
    const { url, requests } = await serveAnswers(t, (path, response) => {
      response.writeHead(302, { location: path === 'loop' ? '/loop' : 'file:///etc/passwd' }).end();
    });
    for (const key of ['loop', 'file']) {
      await assert.rejects(openHttpReader(url, once).get(key), { code: 'storage-unavailable' });
    }
    assert.ok(requests.length <= 10);
  });
});

describe('a body that breaks off', () => {
  const whole = '0123456789'.repeat(10);

  /** Sends 30 bytes per response, then disconnects. @param changes one etag per response */
  async function breakingServer(t: TestContext, etags: readonly string[] = []) {
    const seen: IncomingHttpHeaders[] = [];
    const { url } = await serveAnswers(t, (path, response, { headers }) => {
      const etag = etags[seen.length] ?? etags.at(-1);
      seen.push(headers);
      const start = Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0);
      const isWhole = start === 0 || path === 'no-ranges';
      response.writeHead(isWhole ? 200 : 206, {
        'content-length': whole.length - (isWhole ? 0 : start),
        ...(isWhole ? {} : { 'content-range': `bytes ${start}-99/100` }),
        ...(etag === undefined ? {} : { etag }),
      });
      const piece = whole.slice(start, start + 30);
      response.write(piece, () => {
        if (start + piece.length === whole.length) response.end();
        else response.destroy();
      });
    });
    return { reader: openHttpReader(url, once), seen };
  }

  it('is resumed where it broke off, if the object is unchanged', async (t) => {
    const { reader, seen } = await breakingServer(t, ['"1"']);
    const found = await reader.get('x');
    assert.equal(String(await collect(found!.body)), whole);
    assert.deepEqual(
      seen.map((headers) => [headers.range, headers['if-match']]),
      [
        [undefined, undefined],
        ['bytes=30-99', '"1"'],
        ['bytes=60-99', '"1"'],
        ['bytes=90-99', '"1"'],
      ],
    );
    const part = await reader.get('x', { range: { start: 5, end: 75 } });
    assert.equal(String(await collect(part!.body)), whole.slice(5, 75));
  });

  it('fails if the object was replaced, or has no strong etag or no ranges', async (t) => {
    for (const [key, etags] of [
      ['replaced', ['"1"', '"2"']],
      ['weak', ['W/"1"']],
      ['none', []],
      ['no-ranges', ['"1"']],
    ] as const) {
      const { reader } = await breakingServer(t, etags);
      const found = await reader.get(key);
      await assert.rejects(
        collect(found!.body),
        { code: 'storage-unavailable', message: /broke off/ },
        key,
      );
    }
  });
});

describe('a slow server', () => {
  it('times out when it does not respond, or stops midway', async (t) => {
    const { url } = await serveAnswers(t, (path, response) => {
      if (path === 'stops') response.write('some');
    });
    const reader = openHttpReader(url, { ...once, idleTimeoutMs: 100 });
    await assert.rejects(reader.get('silent'), { code: 'storage-unavailable' });
    const found = await reader.get('stops');
    await assert.rejects(collect(found!.body), { code: 'storage-unavailable' });
  });

  it('does not time out while data arrives', async (t) => {
    const { url } = await serveAnswers(t, (_, response) => {
      const drip = async (): Promise<void> => {
        for (let n = 0; n < 8; n += 1) {
          response.write('drop');
          await sleep(60);
        }
        response.end();
      };
      drip().catch(() => response.destroy());
    });
    const found = await openHttpReader(url, { ...once, idleTimeoutMs: 400 }).get('steady');
    assert.equal(String(await collect(found!.body)), 'drop'.repeat(8));
  });

  it('does not time out because of a slow reader', async (t) => {
    const { url } = await serveAnswers(t, (_, response) => response.end('bytes'));
    const found = await openHttpReader(url, { ...once, idleTimeoutMs: 100 }).get('x');
    await sleep(200);
    assert.equal(String(await collect(found!.body)), 'bytes');
  });

  it('causes an error when it disconnects, never a shorter object', async (t) => {
    const { url } = await serveAnswers(t, (_, response) => {
      response.writeHead(200, { 'content-length': 100 });
      response.write('short', () => response.destroy());
    });
    const found = await openHttpReader(url, once).get('x');
    await assert.rejects(collect(found!.body), { code: 'storage-unavailable' });
  });
});

describe('a caller that aborts', () => {
  it('gets an “aborted” error before the request, while waiting, and in the body', async (t) => {
    const { url } = await serveAnswers(t, (path, response) => {
      if (path === 'body') response.write('some');
      if (path === 'down') response.writeHead(503, { 'retry-after': '5' }).end();
    });
    const reader = openHttpReader(url);
    await assert.rejects(reader.get('x', { signal: AbortSignal.abort() }), { code: 'aborted' });
    for (const key of ['silent', 'down']) {
      const signal = AbortSignal.timeout(50);
      await assert.rejects(reader.get(key, { signal }), { code: 'aborted' });
    }
    const controller = new AbortController();
    const found = await reader.get('body', { signal: controller.signal });
    const reading = collect(found!.body);
    controller.abort();
    await assert.rejects(reading, { code: 'aborted' });
  });
});
