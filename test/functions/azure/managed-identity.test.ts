import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { DefaultAzureCredential } from '../../../functions/azure/managed-identity.ts';
import { startKeyVault } from '../../support/servers/key-vault.ts';

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
