import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';

import { ContainerClient } from '@azure/storage-blob';

import {
  auditPrefix,
  blockedKey,
  narInfoKey,
  pendingKey,
  receiptKey,
  signingConfigKey,
  stagedLogKey,
} from '../../core/cache/layout.ts';
import { forEachRoot } from '../../core/cache/roots.ts';
import { clientDocument, openSecret, readSecret } from '../../core/cache/secret-documents.ts';
import { newUploadId } from '../../core/cache/upload-id.ts';
import { ageIdentity } from '../../core/secrets/age.ts';
import { openBucket } from '../../core/storage/open/open-bucket.ts';
import { listKeys, readObject } from '../support/assert/bytes.ts';
import { createMachine, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import { requireNix } from '../support/lab/nix-lab.ts';
import { makeAgeKey } from '../support/lab/sops-lab.ts';
import { requireAzurite } from '../support/servers/azurite.ts';
import { readerOf, type Made } from './made.ts';

const denied = { code: 'storage-denied' };
const bytes = Buffer.from('{}');
const storeHash = '0'.repeat(32);

test('a client of a cache in Azure stages with its SAS token, and can do nothing else with it', async (t) => {
  const nix = requireNix(t);
  const server = await requireAzurite(t);
  if (nix === null || server === null) return;
  const machine = await createMachine(t, { nix });
  if (skipUnlessChroot(t, machine)) return;
  const [client, publisher] = [await makeAgeKey(), await makeAgeKey()];
  const admin = { AZURE_STORAGE_CONNECTION_STRING: server.connectionString() };
  const init = [
    ...['init', server.url('acme'), '--create', '--name', 'acme', '--no-upstream', '--json'],
    ...['--age', client.recipient, '--signing-age', publisher.recipient],
  ];
  const created = await machine.nicheDoes(init, { env: admin });
  const made = JSON.parse(created.stdout) as Made & {
    readonly staging: string;
    readonly uploadRights: unknown;
  };
  assert.deepEqual(made.uploadRights, { overwrite: false, read: true, list: true, delete: false });

  const urls = { public: made.storage, staging: made.staging, private: made.private };
  const { credentials: own } = server;
  const owner = forEachRoot((root) => openBucket(urls[root], { credentials: own }));
  const stored = await readSecret(owner.public, clientDocument);
  assert.ok(stored);
  const identity = ageIdentity(() =>
    Promise.resolve({ secretKeys: [client.secretKey], sshKeys: [], tried: [] }),
  );
  const { value } = await openSecret(stored, clientDocument, [identity]);
  assert.equal(value.private, undefined);
  const { credentials } = value;
  assert.ok(credentials);
  const thief = forEachRoot((root) => openBucket(urls[root], { credentials }));

  await t.test('stages, and reads receipts', async () => {
    const upload = newUploadId();
    const key = stagedLogKey(upload, 'a.drv');
    assert.equal(await thief.staging.put(key, bytes, { ifAbsent: true }), 'created');
    const receipt = receiptKey(upload, storeHash, 'published');
    await owner.staging.put(receipt, bytes);
    assert.deepEqual(await listKeys(thief.staging, 'receipts/'), [receipt]);
    assert.ok(await readObject(thief.staging, receipt));
    await assert.rejects(thief.staging.put(key, bytes), denied, 'overwrites');
    await assert.rejects(thief.staging.delete([key, receipt]), denied, 'deletes');
    await owner.staging.delete([key, receipt]);
  });

  await t.test('reads and writes nothing private', async () => {
    for (const key of [
      pendingKey(storeHash, newUploadId()),
      blockedKey(storeHash),
      `${auditPrefix}2026-01-01/${randomUUID()}.json`,
      signingConfigKey,
      receiptKey(newUploadId(), storeHash, 'published'),
    ]) {
      for (const options of [{}, { ifAbsent: true }]) {
        await assert.rejects(thief.private.put(key, bytes, options), denied, key);
      }
      await assert.rejects(thief.private.get(key), denied, key);
      await assert.rejects(thief.private.delete([key]), denied, key);
    }
    await assert.rejects(listKeys(thief.private), denied);
    assert.ok(await readObject(owner.private, signingConfigKey), 'it is there');
    assert.deepEqual(await listKeys(owner.private), [signingConfigKey]);
  });

  await t.test('writes and deletes nothing public', async () => {
    const before = await listKeys(owner.public);
    for (const key of [narInfoKey(storeHash), 'nar/a.nar', 'niche.json', 'nix-cache-info']) {
      for (const options of [{}, { ifAbsent: true }]) {
        await assert.rejects(thief.public.put(key, bytes, options), denied, key);
      }
      await assert.rejects(thief.public.delete([key]), denied, key);
    }
    assert.deepEqual(await listKeys(owner.public), before);
  });

  await t.test('pushes with the client document alone, and real Nix substitutes', async () => {
    const env = { SOPS_AGE_KEY: client.secretKey };
    await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);
    const upper = await machine.output('nix-build', ['--no-out-link', '-A', 'upper']);
    const url = `${made.substituter}#${made.publicKey}`;
    await machine.nicheDoes(['push', '-u', url, '--no-publish', upper], { env });
    // A blob with snapshots cannot be deleted alone.
    const staged = await listKeys(owner.staging, 'staging/');
    assert.ok(staged.length >= 2);
    const sas = credentials.kind === 'azure' ? credentials.sas : undefined;
    const container = new ContainerClient(`${server.origin}/${server.account}/acme-staging?${sas}`);
    for (const key of staged) await container.getBlobClient(key).createSnapshot();
    const worker = ['worker', server.url('acme'), '--once'];
    const worked = await machine.nicheDoes(worker, {
      env: { ...admin, SOPS_AGE_KEY: publisher.secretKey },
    });
    assert.match(worked.stderr, /2 paths published, 0 rejected/);
    assert.deepEqual(await listKeys(owner.staging, 'staging/'), []);
    const reader = await readerOf(t, machine, made);
    await reader.output('nix-store', ['--realise', upper]);
    await reader.output('nix-store', ['--verify-path', upper]);
  });
});
