import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { formatConfig } from '../../../core/cache/config.ts';
import { initCache } from '../../../core/cache/init.ts';
import { openCache, openCacheReader, openReader, openUpstreams } from '../../../core/cache/open.ts';
import type { CacheAccess } from '../../../core/cache/open.ts';
import { toSecretTree } from '../../../core/cache/secret-documents.ts';
import { ageIdentity, wrapForAge } from '../../../core/secrets/age.ts';
import { encryptDocument } from '../../../core/secrets/document.ts';
import { openFileBucket } from '../../../core/storage/file/driver.ts';
import { listKeys } from '../../support/assert/bytes.ts';
import { serveAnswers } from '../../support/cache/http.ts';
import { createTestCache, publicKeyOf, testKey } from '../../support/cache/kit.ts';
import { makeSmallCache } from '../../support/cache/small-cache.ts';
import { makeAgeKey } from '../../support/lab/sops-lab.ts';
import { serveFolder } from '../../support/servers/static-server.ts';

test('a cache is opened by the URL of its storage; over HTTP it is read-only', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'niche-open-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const url = pathToFileURL(folder).href;
  const upstream = { url: 'https://cache.nixos.org', publicKey: publicKeyOf(testKey('up-1')) };
  const { config } = createTestCache();
  const here = { ...config, storage: url, staging: url, private: url, upstreams: [upstream] };
  await initCache(openFileBucket(folder), here);
  const cache = await openCache(url);
  assert.deepEqual(cache.config, here);
  for (const root of [cache.public, cache.staging, cache.private]) assert.equal(root.url, url);

  const server = await serveFolder(folder);
  t.after(() => server.close());
  const reader = await openCacheReader(`${server.url}/`);
  assert.deepEqual(reader.config, here);
  assert.equal(reader.reader.url, server.url);
  // A configuration read over HTTP cannot choose a directory of this machine for writing.
  await assert.rejects(openCache(server.url), { code: 'usage' });
  await assert.rejects(openCacheReader(`${server.url}/missing`), { code: 'not-a-cache' });
  await assert.rejects(openCacheReader('gopher://x'), { code: 'invalid-url' });
});

test('a configuration read over HTTP cannot choose a directory of this machine for writing', async (t) => {
  const cache = await makeSmallCache(t);
  const server = await serveFolder(cache.directory);
  t.after(() => server.close());
  await assert.rejects(openCache(server.url), { code: 'usage' });
  // A user who gives the directory itself may write to it.
  const opened = await openCache(cache.url);
  assert.deepEqual(await listKeys(opened.private), await listKeys(cache.bucket));
});

/** A storage where every credential is refused; records the access keys that it receives. */
async function denyingStorage(t: TestContext): Promise<{ endpoint: string; seen: Set<string> }> {
  const seen = new Set<string>();
  const { url: endpoint } = await serveAnswers(t, (_, response, { headers }) => {
    seen.add(/Credential=([^/]+)/.exec(headers.authorization ?? '')?.[1] ?? 'none');
    response.writeHead(403).end();
  });
  return { endpoint, seen };
}

test('encrypted credentials go only to the storage in their own document, not to that of niche.json', async (t) => {
  const cache = await makeSmallCache(t);
  const [named, meant] = [await denyingStorage(t), await denyingStorage(t)];
  const at = ({ endpoint }: typeof named) => ({
    storage: `s3://acme?region=us-east-1&endpoint=${endpoint}`,
    staging: `s3://acme-staging?region=us-east-1&endpoint=${endpoint}`,
    private: `s3://acme-private?region=us-east-1&endpoint=${endpoint}`,
  });
  const credentials = { kind: 's3', accessKeyId: 'encrypted', secretAccessKey: 'x' } as const;
  const readCredentials = { ...credentials, accessKeyId: 'for-reading' };
  const { storage, staging } = at(meant);
  const { secretKey, recipient } = await makeAgeKey();
  const document = await encryptDocument(
    {
      tree: toSecretTree({ version: 1, storage, staging, readCredentials, credentials }),
      recipients: [[{ kind: 'age', recipient }]],
      now: new Date(),
    },
    { wrap: (_, dataKey) => wrapForAge({ kind: 'age', recipient }, dataKey) },
  );
  const config = formatConfig({ ...cache.config, ...at(named) });
  await writeFile(join(cache.directory, 'niche.json'), config);
  await writeFile(join(cache.directory, 'niche.client.json'), document);

  const keys = { secretKeys: [secretKey], sshKeys: [], tried: [] };
  const opened = await openCache(cache.url, {
    // This machine has credentials of another account.
    hasCredentials: () => true,
    credentialsFor: () => ({ ...credentials, accessKeyId: 'own' }),
    identities: [ageIdentity(() => Promise.resolve(keys))],
  });
  assert.deepEqual([...named.seen], ['own']);
  await assert.rejects(opened.public.head('key'), { code: 'storage-denied' });
  assert.deepEqual([...meant.seen], ['for-reading']);
  await assert.rejects(opened.staging.head('staging/key'), { code: 'storage-denied' });
  assert.deepEqual([...meant.seen], ['for-reading', 'encrypted']);
  // The document has no private root: that of niche.json is opened with this machine's credentials.
  await assert.rejects(opened.private.head('audit/key'), { code: 'storage-denied' });
  assert.deepEqual([...named.seen], ['own']);
  assert.deepEqual([...meant.seen], ['for-reading', 'encrypted']);
});

test('an auditor needs no rights on the staging root, and no identity', async (t) => {
  const cache = await makeSmallCache(t);
  const requests: string[] = [];
  const { url: endpoint } = await serveAnswers(t, (_, response, { url = '' }) => {
    requests.push(url);
    const headers = {
      etag: '"1"',
      'content-length': '0',
      'last-modified': new Date(0).toUTCString(),
    };
    if (url.startsWith('/acme-private/')) response.writeHead(200, headers).end();
    else response.writeHead(403).end();
  });
  const at = (bucket: string): string => `s3://${bucket}?region=us-east-1&endpoint=${endpoint}`;
  const roots = { storage: at('acme'), staging: at('acme-staging'), private: at('acme-private') };
  const config = formatConfig({ ...cache.config, ...roots });
  await writeFile(join(cache.directory, 'niche.json'), config);
  const access = {
    hasCredentials: () => true,
    credentialsFor: () => ({ kind: 's3', accessKeyId: 'auditor', secretAccessKey: 'x' }) as const,
    identities: [],
  };
  const opened = await openCache(cache.url, access, 'private');
  assert.equal((await opened.private.head('audit/2026/01/02/key.jsonl'))?.size, 0);
  assert.ok(
    requests.every((url) => url.startsWith('/acme-private/')),
    requests.join(),
  );
});

test('a login is requested for the user’s URL and for upstreams, and not over plain HTTP', async (t) => {
  const asked: string[] = [];
  const access: CacheAccess = {
    hasCredentials: () => false,
    identities: [],
    loginFor(url, chosenBy) {
      asked.push(`${url} ${chosenBy}`);
      return Promise.resolve({ login: 'ci', password: 'secret' });
    },
  };
  const seen: (string | undefined)[] = [];
  const { url } = await serveAnswers(t, (_, response, { headers }) => {
    seen.push(headers.authorization);
    response.writeHead(404).end();
  });
  await openReader(`${url}?priority=1`, access).head('x');
  const config = { upstreams: [{ url, publicKey: publicKeyOf(testKey('up-1')) }] };
  await openUpstreams({ ...config, storeDir: '/nix/store' }, access).findNarInfo('0'.repeat(32));
  assert.deepEqual(asked, [`${url} user`, `${url} cache`]);
  assert.deepEqual(seen, Array(2).fill(`Basic ${btoa('ci:secret')}`));
  // No loopback address, but it leads to this machine.
  await openReader(url.replace('127.0.0.1', '0.0.0.0'), access).head('x');
  assert.deepEqual([asked.length, seen[2]], [2, undefined]);
});
