import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { isNicheError } from '../../../core/errors.ts';
import { DefaultAzureCredential } from '../../../functions/azure/managed-identity.ts';
import { startKeyVault } from '../../support/servers/key-vault.ts';

test('requests a token once, and reports a missing identity', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'niche-vault-'));
  const vault = await startKeyVault(folder);
  const before = { ...process.env };
  t.after(async () => {
    process.env = before;
    await vault.stop();
    await rm(folder, { recursive: true, force: true });
  });
  const credential = new DefaultAzureCredential();
  delete process.env['IDENTITY_ENDPOINT'];
  await assert.rejects(credential.getToken('https://storage.azure.com/.default'), {
    code: 'storage-denied',
  });
  Object.assign(process.env, vault.identity);
  const [one, other] = await Promise.all([
    credential.getToken('https://storage.azure.com/.default'),
    credential.getToken(['https://storage.azure.com/.default']),
  ]);
  assert.equal(one.token, other.token);
  assert.ok(one.expiresOnTimestamp > Date.now());
  assert.deepEqual(vault.requests, ['token https://storage.azure.com']);
  process.env['IDENTITY_HEADER'] = 'wrong';
  await assert.rejects(credential.getToken('https://vault.azure.net/.default'), {
    code: 'storage-denied',
  });
});

test('keeps the secret header from other servers, and refuses damaged responses', async (t) => {
  const before = { ...process.env };
  t.after(() => (process.env = before));
  const secrets: unknown[] = [];
  const thief = await serve(t, (request, response) => {
    secrets.push(request.headers['x-identity-header']);
    response.end('{}');
  });
  const responses: readonly (readonly [status: number, body: string, headers?: object])[] = [
    [307, '', { location: thief }],
    [200, 'null'],
    [200, '{"access_token":"secret"'],
    [200, '{"access_token":"secret","expires_on":"soon"}'],
    [503, '<html>'],
  ];
  for (const [status, body, headers] of responses) {
    const endpoint = await serve(t, (_request, response) => {
      response.writeHead(status, { ...headers }).end(body);
    });
    Object.assign(process.env, { IDENTITY_ENDPOINT: endpoint, IDENTITY_HEADER: 'secret' });
    await assert.rejects(
      new DefaultAzureCredential().getToken('https://vault.azure.net/.default'),
      (error) => isNicheError(error, 'storage-unavailable') && !error.message.includes('secret'),
      `${status} ${body}`,
    );
  }
  assert.deepEqual(secrets, []);
});

async function serve(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
