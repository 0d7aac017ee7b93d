import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { test } from 'node:test';
import { vaultClients } from '../../../functions/azure/vault.ts';
import { DefaultAzureCredential } from '../../../functions/azure/managed-identity.ts';
import { startKeyVault } from '../../support/servers/key-vault.ts';

const recipient = { kind: 'azure-kv', name: 'documents', version: '0123456789abcdef' } as const;

test('no vault but the deployment’s is shown a token', async () => {
  for (const vault of ['https://acme.vault.azure.net', undefined]) {
    const clients = vaultClients(vault);
    await assert.rejects(clients({ ...recipient, vaultUrl: 'https://evil.example' }), {
      code: 'identity-failed',
    });
  }
});

test('a managed identity’s token is asked for once, and its absence is said', async (t) => {
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
  const [one, other] = [
    await credential.getToken('https://storage.azure.com/.default'),
    await credential.getToken(['https://storage.azure.com/.default']),
  ];
  assert.equal(one.token, other.token);
  assert.ok(one.expiresOnTimestamp > Date.now());
  assert.deepEqual(vault.requests, ['token https://storage.azure.com']);
  process.env['IDENTITY_HEADER'] = 'wrong';
  await assert.rejects(credential.getToken('https://vault.azure.net/.default'), {
    code: 'storage-denied',
  });
});

/**
 * The request and the answer that the reference shows.
 *
 * @see https://learn.microsoft.com/rest/api/keyvault/keys/decrypt/decrypt#examples
 */
const documented = {
  name: 'sdktestkey',
  version: '4eb68492b5f6421e835d961ad2be3155',
  apiVersion: '7.4',
  request: {
    alg: 'RSA-OAEP',
    value:
      'sid-4nG3FzRIFWXLXlG-FZo6H1-kzbNX5Exe0_VRqcGLuJWjI9oSofsn-2IagDsQzkpNAXv9V8aoIizelrK_14darhxaAV8OejO7Oh7spjxa7IxMVS3e-cwcLdEHzMbMfM1uFpDyRFqEUASHI0H8F1M2m1e9TUSXOVW3KMqm7cK94ZQMFvd4AYdLfmfnStMp_MqIQh4kpIkB6h2b1M3possVrLKH_l2L3uT-qFiwQlH9-dt0Cje5mrkpsYCy4hAXNFUPhIyBWAZwOQylIE2sPuopFs55lRIHpWP2CqNe-IK8tX87BRuJ_Vy3GIFxDjD5uu74scIyQCKMImB6xQ_-mQ',
  },
  answer: {
    kid: 'https://myvault.vault.azure.net/keys/sdktestkey/4eb68492b5f6421e835d961ad2be3155',
    value: 'dvDmrSBpjRjtYg',
  },
} as const;

test('decrypting is what the reference’s example shows, request and answer', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'niche-vault-'));
  const identities = await startKeyVault(folder);
  const asked: unknown[] = [];
  const server = createServer((request, response) => {
    void json(request).then((body) => {
      asked.push(request.method, request.url, body);
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(documented.answer));
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const before = { ...process.env };
  t.after(async () => {
    process.env = before;
    server.close();
    server.closeAllConnections();
    await identities.stop();
    await rm(folder, { recursive: true, force: true });
  });
  Object.assign(process.env, identities.identity);
  const vaultUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { name, version, apiVersion } = documented;
  const client = await vaultClients(vaultUrl)({ kind: 'azure-kv', vaultUrl, name, version });
  const { alg, value } = documented.request;
  const { result } = await client.decrypt({
    algorithm: alg,
    ciphertext: Buffer.from(value, 'base64url'),
  });
  assert.equal(Buffer.from(result).toString('base64url'), documented.answer.value);
  assert.deepEqual(asked, [
    'POST',
    `/keys/${name}/${version}/decrypt?api-version=${apiVersion}`,
    documented.request,
  ]);
});
