import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { createConnection } from 'node:net';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';

import { listenForEvents } from '../../../functions/worker/webhook.ts';
import type { WebhookOptions } from '../../../functions/worker/webhook.ts';
import type { Health } from '../../../functions/worker/worker.ts';
import { maxEventBytes } from '../../../functions/events/s3.ts';

const upload = '01980c5e-7b1a-7cc2-a1f0-3d5a2f6f8a10';
const healthy: Health = {
  ok: true,
  lastSuccess: '2026-01-01T00:00:00.000Z',
  lastFailure: null,
  queued: 2,
  running: 1,
};

async function start(t: TestContext, options: Partial<WebhookOptions> = {}) {
  const heard: unknown[] = [];
  const refused: string[] = [];
  const webhook = await listenForEvents({
    host: '127.0.0.1',
    port: 0,
    root: { bucket: 'acme', prefix: 'p/' },
    onBatch: (id, origin) => heard.push([id, origin]),
    health: () => healthy,
    onRefused: (error) => refused.push(error.code),
    ...options,
  });
  t.after(() => webhook.close());
  const post = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
    fetch(`${webhook.url}/hook`, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json', ...headers },
    });
  return { webhook, heard, refused, post };
}

const event = (key: string, bucket = 'acme', eventName = 's3:ObjectCreated:Put'): string =>
  JSON.stringify({
    Records: [
      {
        eventName,
        eventTime: '2026-01-01T00:00:00Z',
        userIdentity: { principalId: 'ci' },
        requestParameters: { sourceIPAddress: '192.0.2.1' },
        s3: { bucket: { name: bucket }, object: { key, size: 3, eTag: 'abc' } },
      },
    ],
  });

describe('notifications over HTTP', () => {
  test('submits the batch of a new manifest, with its origin', async (t) => {
    const { heard, post } = await start(t, { token: 'secret' });
    const answer = await post(event(`p%2Fstaging%2F${upload}%2F7.json`), {
      authorization: 'Bearer secret',
    });
    assert.equal(answer.status, 200);
    assert.deepEqual(await answer.json(), { events: 1, batches: 1 });
    assert.deepEqual(heard, [
      [
        { upload, batch: 7 },
        {
          via: 'event',
          principal: 'ci',
          sourceAddress: '192.0.2.1',
          at: '2026-01-01T00:00:00Z',
          etag: 'abc',
        },
      ],
    ]);
  });

  test('believes no origin of a sender without a secret', async (t) => {
    const { heard, post } = await start(t);
    assert.equal((await post(event(`p/staging/${upload}/7.json`))).status, 200);
    assert.deepEqual(heard, [[{ upload, batch: 7 }, null]]);
  });

  test('refuses what a web page can send without asking', async (t) => {
    const { heard, post, webhook } = await start(t, { token: 'secret' });
    const body = event(`p/staging/${upload}/7.json`);
    const authorization = 'Bearer secret';
    for (const type of [
      'text/plain',
      'text/plain;charset=UTF-8',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=application/json',
      'text/plain; application/json',
      'application/jsonp',
    ]) {
      assert.equal((await post(body, { authorization, 'content-type': type })).status, 415, type);
    }
    const asked = await fetch(webhook.url, {
      method: 'OPTIONS',
      headers: { origin: 'https://evil.example', 'access-control-request-method': 'POST' },
    });
    assert.equal(asked.headers.get('access-control-allow-origin'), null);
    assert.deepEqual(heard, []);
    const type = 'Application/JSON; charset=utf-8';
    assert.equal((await post(body, { authorization, 'content-type': type })).status, 200);
  });

  /** Sends a request with a `Host`, which `fetch` does not. */
  async function statusFor(
    url: string,
    { path = '/', body = '', headers }: { path?: string; body?: string; headers: object },
  ): Promise<number | undefined> {
    const asked = request(`${url}${path}`, {
      method: body === '' ? 'GET' : 'POST',
      agent: false,
      headers: { 'content-type': 'application/json', ...headers },
    });
    asked.end(body);
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    response.resume();
    return response.statusCode;
  }

  test('on a loopback address, answers no other host without the token', async (t) => {
    const body = event(`p/staging/${upload}/7.json`);
    const host = 'evil.example';
    const plain = await start(t);
    assert.equal(await statusFor(plain.webhook.url, { body, headers: { host } }), 421);
    assert.equal(await statusFor(plain.webhook.url, { path: '/healthz', headers: { host } }), 421);
    assert.deepEqual(plain.heard, []);
    assert.equal(
      await statusFor(plain.webhook.url, { body, headers: { host: 'localhost:1' } }),
      200,
    );
    // A proxy on this machine passes its own host on.
    const { webhook } = await start(t, { token: 'secret' });
    const authorization = 'Bearer secret';
    assert.equal(await statusFor(webhook.url, { body, headers: { host, authorization } }), 200);
    assert.equal(await statusFor(webhook.url, { body, headers: { host } }), 401);
  });

  test('ignores other events of the bucket', async (t) => {
    const { heard, post } = await start(t);
    for (const body of [
      event(`p/staging/${upload}/7.nars`),
      event(`staging/${upload}/7.json`),
      event(`p/staging/${upload}/7.json/x`),
      event(`q/p/staging/${upload}/7.json`),
      event(`p/staging/${upload}/7.json`, 'other'),
      event(`p/staging/${upload}/7.json`, 'acme', 's3:ObjectRemoved:Delete'),
      JSON.stringify({ Event: 's3:TestEvent', Bucket: 'acme' }),
    ]) {
      const answer = await post(body);
      assert.equal(answer.status, 200);
      assert.equal(((await answer.json()) as { batches: number }).batches, 0);
    }
    assert.deepEqual(heard, []);
  });

  test('refuses and reports malformed notifications', async (t) => {
    const { refused, post, webhook } = await start(t);
    assert.equal((await post('{"hello":1}')).status, 400);
    assert.deepEqual(refused, ['malformed-event']);
    assert.equal((await post(Buffer.alloc(maxEventBytes + 1))).status, 413);
    const got = await fetch(`${webhook.url}/hook`);
    assert.equal(got.status, 405);
    assert.equal(got.headers.get('allow'), 'POST');
  });

  test('requires the token', async (t) => {
    const { heard, post } = await start(t, { token: 'secret token' });
    const body = event(`p/staging/${upload}/0.json`);
    for (const authorization of ['', 'Bearer wrong', 'secret', 'Bearer secret token2']) {
      assert.equal((await post(body, { authorization })).status, 401);
    }
    assert.deepEqual(heard, []);
    assert.equal((await post(body, { authorization: 'Bearer secret token' })).status, 200);
    assert.equal((await post(body, { authorization: 'secret token' })).status, 200);
    assert.equal(heard.length, 2);
  });

  test('accepts B2’s signature', async (t) => {
    const { heard, post } = await start(t, { b2Secret: 'shared' });
    const body = JSON.stringify({
      events: [
        {
          eventType: 'b2:ObjectCreated:Upload',
          bucketName: 'acme',
          objectName: `p/staging/${upload}/0.json`,
        },
      ],
    });
    const hex = createHmac('sha256', 'shared').update(body).digest('hex');
    const header = 'x-bz-event-notification-signature';
    assert.equal((await post(body)).status, 401);
    assert.equal((await post(`${body} `, { [header]: `v1=${hex}` })).status, 401);
    assert.equal((await post(body, { [header]: `v1=${hex}` })).status, 200);
    assert.equal(heard.length, 1);
  });

  test('reports its health without a token', async (t) => {
    let health = healthy;
    const { webhook } = await start(t, { token: 'secret', health: () => health });
    const good = await fetch(`${webhook.url}/healthz`);
    assert.equal(good.status, 200);
    assert.deepEqual(await good.json(), healthy);
    health = { ...healthy, ok: false, lastFailure: 'storage-unavailable' };
    assert.equal((await fetch(`${webhook.url}/healthz`, { method: 'HEAD' })).status, 503);
    assert.equal((await fetch(`${webhook.url}/healthz`, { method: 'POST' })).status, 405);
  });

  test('survives a sender that disconnects', async (t) => {
    const { webhook, heard } = await start(t);
    const socket = createConnection(Number(new URL(webhook.url).port), '127.0.0.1');
    await once(socket, 'connect');
    socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{');
    socket.destroy();
    await once(socket, 'close');
    assert.equal((await fetch(`${webhook.url}/healthz`)).status, 200);
    assert.deepEqual(heard, []);
  });

  test('reports a port in use', async (t) => {
    const { webhook } = await start(t);
    const port = Number(new URL(webhook.url).port);
    await assert.rejects(start(t, { port }), { code: 'usage' });
  });
});

test('one client that sends nothing shuts out no others', async (t) => {
  const { webhook, post } = await start(t, { stallTimeoutMs: 500 });
  const port = Number(new URL(webhook.url).port);
  const idle = Array.from({ length: 300 }, () =>
    createConnection({ port, host: '127.0.0.1', localAddress: '127.0.0.2' }),
  );
  const closed = idle.map(async (socket) => {
    socket.on('error', () => undefined).resume();
    await once(socket, 'close');
  });
  await Promise.race(idle.map((socket) => once(socket, 'connect')));
  assert.equal((await post(event(`p/staging/${upload}/7.json`))).status, 200);
  // Silent connections end by themselves.
  await Promise.all(closed);
});
