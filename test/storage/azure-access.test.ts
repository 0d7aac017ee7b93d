import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { ContainerClient, ContainerSASPermissions } from '@azure/storage-blob';
import { openAzureBucket, type AzureOptions } from '../../core/storage/azure/driver.ts';
import type { StorageCredentials } from '../../core/storage/credentials.ts';
import { openProvisioner } from '../../core/storage/open/open-provision.ts';
import type { StorageProvisioner } from '../../core/storage/provision.ts';
import { blockBytes } from '../../core/storage/azure/block-upload.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { startAzurite, whyNoAzurite, type Azurite } from '../support/servers/azurite.ts';
import { listKeys, patternBytes, readObject } from '../support/assert/bytes.ts';
import { startFaultProxy, type Fault } from '../support/servers/fault-proxy.ts';

describe('access to Azure', { skip: whyNoAzurite() }, access);

const denied = { code: 'storage-denied' };
const ifAbsent = { ifAbsent: true };

function access(): void {
  let starting: Promise<Azurite> | undefined;
  after(async () => (await starting)?.stop());

  /** Creates a container, with functions to open it with different credentials. */
  async function opened(publicly?: 'blob') {
    starting ??= startAzurite();
    const server = await starting;
    const container = await server.createContainer(publicly);
    const open = (options: AzureOptions): Bucket => openAzureBucket(server.url(container), options);
    return {
      server,
      container,
      open,
      owner: open({ credentials: server.credentials }),
      /** @param permissions as in the `sp` field of a SAS token */
      withSas: async (permissions: string): Promise<Bucket> => {
        const url = await server.admin.getContainerClient(container).generateSasUrl({
          permissions: ContainerSASPermissions.parse(permissions),
          expiresOn: new Date(Date.now() + 3_600_000),
        });
        return open({ credentials: { kind: 'azure', sas: new URL(url).search } });
      },
    };
  }

  it('stores nothing when a single-request upload differs from its declared size', async () => {
    const { owner, withSas } = await opened();
    const uploader = await withSas('c');
    const wrong = { code: 'storage-integrity' };
    for (const size of [blockBytes + 1, 3 * blockBytes]) {
      const upload = await uploader.upload('object', { size });
      await assert.rejects(async () => {
        await upload.write(patternBytes(2 * blockBytes));
        await upload.commit(ifAbsent);
      }, wrong);
      await upload.abort();
    }
    assert.deepEqual(await listKeys(owner), []);
  });

  it('stages with a SAS token that only permits creation', async () => {
    const { owner, withSas } = await opened();
    const uploader = await withSas('c');
    const small = Buffer.from('small');
    assert.equal(await uploader.put('staging/0.nars', small, ifAbsent), 'created');
    const large = patternBytes(2 * blockBytes + 17);
    const upload = await uploader.upload('staging/1.nars', { size: large.length });
    for (let start = 0; start < large.length; start += 3_000_000) {
      await upload.write(large.subarray(start, start + 3_000_000));
    }
    assert.equal(await owner.head('staging/1.nars'), null);
    assert.equal(await upload.commit(ifAbsent), 'created');
    assert.ok(large.equals((await readObject(owner, 'staging/1.nars'))!));
    await assert.rejects(uploader.get('staging/0.nars'), denied);
    await assert.rejects(listKeys(uploader), denied);
    await assert.rejects(uploader.delete(['staging/0.nars']), denied);
    assert.equal(String(await readObject(owner, 'staging/0.nars')), 'small');
  });

  it('creates SAS tokens that only create, list and read, and that can be revoked alone', async () => {
    const { server, container, owner, open } = await opened();
    const at = (credentials: StorageCredentials): Promise<StorageProvisioner> =>
      openProvisioner(server.url(container), { credentials });
    const admin = server.admin.getContainerClient(container);
    const expires = new Date(Date.now() + 3_600_000);
    const unlimited = await at(server.credentials);
    /** Creates a token. @returns its stored access policy, and the container opened with it */
    const create = async (until: Date) => {
      const credentials = await unlimited.createUploadCredentials(until);
      assert.ok(credentials?.kind === 'azure' && credentials.sas !== undefined);
      const signed = new URLSearchParams(credentials.sas);
      assert.equal(signed.get('sr'), 'c');
      // Azure refuses a field that both the token and its policy have.
      assert.deepEqual([signed.get('sp'), signed.get('se')], [null, null]);
      return { credentials, policy: signed.get('si'), client: open({ credentials }) };
    };
    const policies = async () => (await admin.getAccessPolicy()).signedIdentifiers;
    const past = await create(new Date(Date.now() - 5000));
    await assert.rejects(past.client.put('staging/1', Buffer.from('late'), ifAbsent), denied);

    const made = await create(expires);
    const [policy, ...others] = await policies();
    assert.equal(policy?.id, made.policy);
    assert.equal(policy.accessPolicy.permissions, 'rcl');
    assert.equal(policy.accessPolicy.expiresOn?.getTime(), expires.getTime());
    assert.deepEqual(others, [], 'the expired policy is removed');
    const { client } = made;
    assert.equal(await client.put('staging/0', Buffer.from('one'), ifAbsent), 'created');
    await owner.put('receipts/0', Buffer.from('receipt'));
    assert.deepEqual(await listKeys(client, 'receipts/'), ['receipts/0']);
    assert.equal(String(await readObject(client, 'receipts/0')), 'receipt');
    await assert.rejects(client.put('staging/0', Buffer.from('two')), denied);
    await assert.rejects(client.delete(['staging/0']), denied);
    assert.equal(String(await readObject(owner, 'staging/0')), 'one');
    // The token does not state its rights, so a large object takes one request.
    const large = patternBytes(2 * blockBytes + 17);
    const upload = await client.upload('staging/2', { size: large.length });
    await upload.write(large);
    assert.equal(await upload.commit(ifAbsent), 'created');

    const other = await create(expires);
    await admin.setAccessPolicy(
      undefined,
      (await policies()).filter(({ id }) => id !== made.policy),
    );
    await assert.rejects(client.put('staging/3', Buffer.from('revoked'), ifAbsent), denied);
    assert.equal(await other.client.put('staging/3', Buffer.from('one'), ifAbsent), 'created');
    // Only the account's key signs, and only for Azure. The permissions are always printed.
    const limited = await at(made.credentials);
    assert.equal(await limited.createUploadCredentials(expires), null);
    assert.match(limited.uploadRights, /sp=rcl/);
  });

  it('creates no SAS token where a container has five stored access policies', async () => {
    const { server, container } = await opened('blob');
    const admin = server.admin.getContainerClient(container);
    const theirs = ['a', 'b', 'c', 'd'].map((id) => ({ id, accessPolicy: { permissions: 'r' } }));
    await admin.setAccessPolicy('blob', theirs);
    const provisioner = await openProvisioner(server.url(container), {
      credentials: server.credentials,
    });
    const expires = new Date(Date.now() + 3_600_000);
    assert.ok(await provisioner.createUploadCredentials(expires));
    await assert.rejects(provisioner.createUploadCredentials(expires), {
      code: 'usage',
      hint: /az storage container policy list/,
    });
    const { signedIdentifiers, blobPublicAccess } = await admin.getAccessPolicy();
    assert.deepEqual(
      signedIdentifiers.slice(0, 4).map(({ id }) => id),
      ['a', 'b', 'c', 'd'],
    );
    assert.equal(blobPublicAccess, 'blob');
  });

  it('deletes blobs of which a client created snapshots', async () => {
    const { server, container, owner, withSas } = await opened();
    const uploader = await withSas('rcl');
    const keys = ['staging/0.json', 'staging/0.nars', 'staging/1.json'];
    for (const key of keys) {
      await uploader.put(key, Buffer.from('bytes'), ifAbsent);
      const sas = await server.admin.getContainerClient(container).generateSasUrl({
        permissions: ContainerSASPermissions.parse('c'),
        expiresOn: new Date(Date.now() + 3_600_000),
      });
      const blob = new ContainerClient(sas).getBlobClient(key);
      await blob.createSnapshot();
      await assert.rejects(blob.delete(), { code: 'AuthorizationPermissionMismatch' });
    }
    await owner.delete(['staging/1.json']);
    await owner.delete([...keys, 'staging/missing']);
    const left = server.admin.getContainerClient(container).listBlobsFlat({
      includeSnapshots: true,
    });
    assert.equal((await left.next()).done, true);
  });

  it('stores nothing when a large single-request upload ends early', async () => {
    const { owner, withSas } = await opened();
    const uploader = await withSas('c');
    const upload = await uploader.upload('object', { size: 3 * blockBytes });
    await upload.write(patternBytes(blockBytes + 1));
    await upload.abort();
    assert.equal(await owner.head('object'), null);
    const unsized = await uploader.upload('object');
    await assert.rejects(async () => {
      await unsized.write(patternBytes(2 * blockBytes + 1));
      await unsized.commit(ifAbsent);
    }, denied);
    await unsized.abort();
    assert.deepEqual(await listKeys(owner), []);
  });

  it('accepts a key, a SAS token, a connection string, or public access', async () => {
    const { server, owner, open, withSas } = await opened('blob');
    await owner.put('object', Buffer.from('bytes'));
    const connectionString = server.connectionString();
    for (const bucket of [
      await withSas('r'),
      open({ credentials: { kind: 'azure', connectionString } }),
      open({ credentials: { kind: 'anonymous' } }),
      // The machine's token is never sent to a server that is not Azure's.
      open({}),
    ]) {
      assert.equal(String(await readObject(bucket, 'object')), 'bytes');
      assert.equal(await bucket.head('nothing'), null);
    }
    const reader = open({ credentials: { kind: 'anonymous' } });
    await assert.rejects(reader.put('object', Buffer.from('other')), denied);
    await assert.rejects(listKeys(reader), denied);
  });

  it('distinguishes denied from missing', async () => {
    const { server, owner, open } = await opened();
    await owner.put('object', Buffer.from('bytes'));
    for (const credentials of [
      { kind: 'anonymous' },
      { kind: 'azure', accountKey: Buffer.from('wrong').toString('base64') },
      { kind: 'azure', sas: 'sv=2024-05-04&sp=r&sr=c&se=2020-01-01T00:00:00Z&sig=x' },
    ] as const) {
      const bucket = open({ credentials });
      await assert.rejects(bucket.head('object'), denied);
      await assert.rejects(bucket.get('nothing'), denied);
      await assert.rejects(listKeys(bucket), denied);
    }
    const nowhere = openAzureBucket(server.url('no-such-container'), {
      credentials: server.credentials,
    });
    for (const attempt of [
      () => nowhere.head('x'),
      () => nowhere.get('x'),
      () => nowhere.put('x', Buffer.from('x'), ifAbsent),
      () => listKeys(nowhere),
      () => nowhere.delete(['x', 'y']),
    ]) {
      await assert.rejects(attempt, { code: 'storage-unavailable', message: /no such container/ });
    }
  });

  it('reports a deletion that Azure refuses, among others that it carries out', async (t) => {
    const { server, container, owner } = await opened();
    for (const key of ['a', 'b']) await owner.put(key, Buffer.from(key));
    const proxy = await startFaultProxy(server.origin);
    t.after(() => proxy.stop());
    const bucket = openAzureBucket(server.url(container, proxy.url), {
      credentials: server.credentials,
      retry: { maxAttempts: 2, firstBackoffMs: 1 },
    });
    const refused: Fault = {
      kind: 'answer',
      status: 403,
      headers: { 'x-ms-error-code': 'AuthorizationFailure' },
    };
    proxy.inject(({ path }) => (path.endsWith('/b') ? refused : null));
    await assert.rejects(bucket.delete(['a', 'b']), denied);
    assert.deepEqual(await listKeys(owner), ['b']);
  });

  it('refuses credentials of another storage, or of another account', async () => {
    const { server, open } = await opened();
    const s3 = { kind: 's3', accessKeyId: 'a', secretAccessKey: 'b' } as const;
    const elsewhere = server.connectionString('http://127.0.0.1:9');
    const both = { kind: 'azure', accountKey: 'a', sas: 'b' } as const;
    for (const credentials of [
      s3,
      both,
      { kind: 'azure' } as const,
      { kind: 'azure', connectionString: elsewhere } as const,
      { kind: 'azure', connectionString: 'AccountName=x' } as const,
    ]) {
      assert.throws(() => open({ credentials }), { code: 'usage' });
    }
  });

  it('reports errors in one line with a hint, and shows no secret', async (t) => {
    const { server, container, owner } = await opened();
    await owner.put('object', Buffer.from('bytes'));
    const proxy = await startFaultProxy(server.origin);
    t.after(() => proxy.stop());
    const { credentials } = server;
    const options = { credentials, retry: { maxAttempts: 2, firstBackoffMs: 1 } };
    const yesterday = new Date(Date.now() - 86_400_000).toUTCString();
    const skewed = openAzureBucket(server.url(container, proxy.url), options);
    proxy.inject(() => ({ kind: 'answer', status: 403, headers: { date: yesterday } }));
    const encrypted = openAzureBucket(
      server.url(container).replace('endpoint=http:', 'endpoint=https:'),
      options,
    );
    const closed = openAzureBucket(server.url(container, 'http://127.0.0.1:9'), options);
    for (const [bucket, code, hint] of [
      [skewed, 'storage-denied', /clock/],
      [encrypted, 'storage-unavailable', /write http:\/\/ instead of https/],
      [closed, 'storage-unavailable', /running/],
    ] as const) {
      await assert.rejects(bucket.head('object'), (error: Error & { hint?: string }) => {
        assert.equal((error as { code?: string }).code, code);
        assert.match(error.hint ?? '', hint);
        assert.doesNotMatch(error.message, /\n|sig=/);
        assert.ok(!error.message.includes(credentials.accountKey ?? ''));
        return true;
      });
    }
  });
}
