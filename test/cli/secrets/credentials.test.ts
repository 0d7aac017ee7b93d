import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { hasAmbientCredentials } from '../../../cli/secrets/ambient.ts';
import { environmentCredentials } from '../../../cli/secrets/credentials.ts';

const url = 'azure://acme/cache/prefix';
const emulated = 'azure://acme/cache?endpoint=http://127.0.0.1:10000/acme';
const home = { HOME: '/nonexistent' };

describe('credentials in the environment', () => {
  it('uses a connection string for its account and endpoint', () => {
    const ours = 'AccountName=acme;AccountKey=a2V5;EndpointSuffix=core.windows.net';
    const env = { ...home, AZURE_STORAGE_CONNECTION_STRING: ours };
    const found = { kind: 'azure', connectionString: ours };
    assert.deepEqual(environmentCredentials(url, env), found);
    assert.equal(environmentCredentials(emulated, env), undefined);
    assert.equal(environmentCredentials('azure://other/cache', env), undefined);
    assert.ok(hasAmbientCredentials(url, env));
    assert.ok(!hasAmbientCredentials(emulated, env));
    const local = 'BlobEndpoint=http://127.0.0.1:10000/acme;SharedAccessSignature=sv=1&sig=x';
    assert.deepEqual(environmentCredentials(emulated, { AZURE_STORAGE_CONNECTION_STRING: local }), {
      kind: 'azure',
      connectionString: local,
    });
    const broken = { AZURE_STORAGE_CONNECTION_STRING: 'AccountKey' };
    assert.throws(() => environmentCredentials(url, broken), { code: 'usage' });
  });

  it('uses an account key for its account only, also with another endpoint', () => {
    const env = { ...home, AZURE_STORAGE_KEY: 'a2V5', AZURE_STORAGE_ACCOUNT: 'acme' };
    const found = { kind: 'azure', accountKey: 'a2V5' };
    assert.deepEqual(environmentCredentials(url, env), found);
    assert.deepEqual(environmentCredentials(emulated, env), found);
    assert.equal(environmentCredentials('azure://other/cache', env), undefined);
    assert.equal(environmentCredentials(url, { AZURE_STORAGE_KEY: 'a2V5' }), undefined);
  });

  it('sends a SAS token only to Azure, since every receiver could use it', () => {
    const env = { ...home, AZURE_STORAGE_SAS_TOKEN: '?sv=1&sig=x' };
    assert.deepEqual(environmentCredentials(url, env), { kind: 'azure', sas: '?sv=1&sig=x' });
    assert.equal(environmentCredentials(emulated, env), undefined);
    assert.equal(
      environmentCredentials(`${url}?endpoint=https://acme.example.org`, env),
      undefined,
    );
    const other = { ...env, AZURE_STORAGE_ACCOUNT: 'other' };
    assert.equal(environmentCredentials(url, other), undefined);
  });

  it('leaves the other storages to their SDKs', () => {
    const env = { AZURE_STORAGE_KEY: 'a2V5', AZURE_STORAGE_ACCOUNT: 'acme' };
    for (const other of ['s3://acme', 'gs://acme', 'file:///srv/acme']) {
      assert.equal(environmentCredentials(other, env), undefined);
    }
  });
});
