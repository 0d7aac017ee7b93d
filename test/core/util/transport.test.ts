import assert from 'node:assert/strict';
import { Agent } from 'node:http';
import type { Socket } from 'node:net';
import { test } from 'node:test';

import { createTransport, readText } from '../../../core/util/transport.ts';
import { serveAnswers } from '../../support/cache/http.ts';

test('a connection that serves many requests keeps none of their listeners', async (t) => {
  const { url } = await serveAnswers(t, (_, response) => response.end('text'));
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => {
    agent.destroy();
  });
  const sockets = new Set<Socket>();
  agent.on('free', (socket: Socket) => sockets.add(socket));
  const send = createTransport(5_000);
  for (let count = 0; count < 12; count += 1) {
    const { body } = await send({ method: 'GET', url, headers: {}, agent });
    assert.equal(await readText(body, 100), 'text');
  }
  const [socket, ...others] = sockets;
  assert.ok(socket);
  assert.equal(others.length, 0);
  assert.equal(socket.listenerCount('connect'), 0);
});
