import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it, type TestContext } from 'node:test';
import { readObject } from '../../../../core/cache/objects.ts';
import type { ObjectReader } from '../../../../core/storage/bucket.ts';
import { openHttpReader } from '../../../../core/storage/http/reader.ts';
import { resumingBody } from '../../../../core/storage/http/resuming-body.ts';
import { openS3Bucket } from '../../../../core/storage/s3/driver.ts';
import { parseS3Url } from '../../../../core/storage/s3/url.ts';
import { createTransport, readText } from '../../../../core/util/transport.ts';
import { collect } from '../../../support/assert/bytes.ts';
import { serveAnswers } from '../../../support/cache/http.ts';

const unavailable = { code: 'storage-unavailable' };
const progress = { bytes: 1000, withinMs: 50 };
const options = { retry: { maxAttempts: 1 }, progress };

/** Sends a byte now and then, for ever. */
function drip(response: ServerResponse): void {
  const timer = setInterval(() => response.write('x'), 5);
  response.on('close', () => {
    clearInterval(timer);
  });
}

describe('a server that sends a byte now and then', () => {
  it('counts as unavailable, where its body cannot be resumed', async (t) => {
    const { url } = await serveAnswers(t, (_, response) => {
      drip(response);
    });
    const found = await openHttpReader(url, options).get('object');
    await assert.rejects(collect(found!.body), unavailable);
  });

  it('counts as unavailable after some resumptions, although each yields bytes', async (t) => {
    const { url, requests } = await serveAnswers(t, (_, response, { headers }) => {
      const start = Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0);
      response.writeHead(start === 0 ? 200 : 206, {
        etag: '"1"',
        'content-length': 100_000 - start,
        ...(start === 0 ? {} : { 'content-range': `bytes ${start}-99999/100000` }),
      });
      drip(response);
    });
    const found = await openHttpReader(url, options).get('object');
    await assert.rejects(collect(found!.body), unavailable);
    assert.equal(requests.length, 4);
  });

  it('counts as unavailable, when what it sends is no content', async (t) => {
    const { url } = await serveAnswers(t, (_, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' });
      // The header of gzip says that a comment without end follows.
      response.write(Buffer.from([0x1f, 0x8b, 8, 0x10, 0, 0, 0, 0, 0, 3]));
      drip(response);
    });
    const found = await openHttpReader(url, options).get('object');
    await assert.rejects(collect(found!.body), unavailable);
  });

  it('fails to send the headers in time', async (t) => {
    const url = await serveEndlessHeaders(t);
    const send = createTransport(10_000, { headersTimeoutMs: 50 });
    await assert.rejects(send({ method: 'GET', url, headers: {} }), { code: 'ETIMEDOUT' });
    const reader = openHttpReader(url, { retry: { maxAttempts: 1 }, idleTimeoutMs: 50 });
    await assert.rejects(reader.get('object'), unavailable);
  });

  it('fails to send the headers in time to the SDK of S3 too', async (t) => {
    const location = parseS3Url(`s3://bucket?endpoint=${await serveEndlessHeaders(t)}&region=here`);
    const bucket = openS3Bucket(location, {
      credentials: { kind: 's3', accessKeyId: 'id', secretAccessKey: 'secret' },
      retry: { maxAttempts: 1 },
      idleTimeoutMs: 50,
    });
    await assert.rejects(bucket.get('object'), unavailable);
    await assert.rejects(bucket.put('object', Buffer.from('x')), unavailable);
    await assert.rejects(bucket.list('')[Symbol.asyncIterator]().next(), unavailable);
  });

  it('fails to send a body that is read whole in time', async () => {
    const body = Readable.from(endless());
    await assert.rejects(readText(body, 2 ** 20, 50), { code: 'ETIMEDOUT' });
  });

  it('fails to send a document in time, at any speed', async (t) => {
    let now = 0;
    t.mock.method(performance, 'now', () => now);
    async function* body() {
      for await (const chunk of endless()) {
        now += 1_000;
        yield chunk;
      }
    }
    const info = { key: 'niche.json', size: undefined, modified: new Date(0), etag: '' };
    const reader: ObjectReader = {
      url: 'https://cache.example',
      head: () => Promise.resolve(info),
      get: () => Promise.resolve({ info, body: body() }),
    };
    await assert.rejects(readObject(reader, 'niche.json'), unavailable);
  });
});

describe('a body', () => {
  it('may take long when its reader is slow, or its server sends enough', async () => {
    async function* chunks() {
      for (let count = 0; count < 10; count += 1) {
        await sleep(20);
        yield Buffer.alloc(1000);
      }
    }
    const body = resumingBody({
      action: 'reading',
      range: { start: 0, end: 10_000 },
      first: Readable.from(chunks()),
      reopen: null,
      progress: { bytes: 1000, withinMs: 10_000 },
    });
    assert.equal((await collect(body)).length, 10_000);
    const taken = resumingBody({
      action: 'reading',
      range: { start: 0, end: 3 },
      first: Readable.from([Buffer.from('a'), Buffer.from('b'), Buffer.from('c')]),
      reopen: null,
      progress: { bytes: 1000, withinMs: 400 },
    });
    let text = '';
    for await (const chunk of taken) {
      await sleep(450);
      text += String(chunk);
    }
    assert.equal(text, 'abc');
  });
});

async function* endless(): AsyncGenerator<Buffer> {
  for (;;) {
    await sleep(1);
    yield Buffer.from('x');
  }
}

/** Starts a server whose response has headers without end. */
async function serveEndlessHeaders(t: TestContext): Promise<string> {
  const server = createServer((socket) => {
    socket.write('HTTP/1.1 200 OK\r\n');
    const timer = setInterval(() => socket.write('a'), 5);
    socket.on('close', () => {
      clearInterval(timer);
    });
    socket.on('error', () => undefined);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
