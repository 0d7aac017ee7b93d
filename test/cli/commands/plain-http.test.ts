import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';

import { formatConfig } from '../../../core/cache/config.ts';
import { openCacheReader } from '../../../core/cache/open.ts';
import { serveAnswers } from '../../support/cache/http.ts';
import { publicKeyOf, testKey } from '../../support/cache/kit.ts';
import { makeSmallCache } from '../../support/cache/small-cache.ts';
import { runCommand } from '../../support/lab/command.ts';

/**
 * An attacker on the network: leaves the cache's public key alone, and replaces the storage by its
 * own. `remote` is a URL of this machine that is no loopback address.
 */
async function attack(t: TestContext) {
  const cache = await makeSmallCache(t);
  const credentials: string[] = [];
  const storage = await serveAnswers(t, (_, response, { headers }) => {
    if (headers.authorization !== undefined) credentials.push(headers.authorization);
    response.writeHead(404, { 'x-ms-error-code': 'BlobNotFound' }).end();
  });
  const forged = formatConfig({
    ...cache.config,
    storage: `azure://acme/public?endpoint=${storage.url}/acme`,
    private: `azure://acme/private?endpoint=${storage.url}/acme`,
    upstreams: [
      {
        url: `azure://acme/upstream?endpoint=${storage.url}/acme`,
        publicKey: publicKeyOf(testKey('up-1')),
      },
    ],
  });
  const server = await serveAnswers(t, (path, response) => {
    if (path === 'niche.json') response.end(forged);
    else response.writeHead(404).end();
  });
  const env = {
    AZURE_STORAGE_ACCOUNT: 'acme',
    AZURE_STORAGE_KEY: randomBytes(32).toString('base64'),
  };
  const remote = server.url.replace('127.0.0.1', '0.0.0.0');
  return { cache, storage, credentials, server, env, remote };
}

describe('over plain HTTP with a pinned key', () => {
  test('no command sends a request to the storage of niche.json', async (t) => {
    const { cache, storage, server, env, remote } = await attack(t);
    const url = `${remote}#${cache.publicKey}`;
    const file = join(cache.directory, 'document');
    await writeFile(file, '{}');
    const upload = '01arz3ndektsv4rrffq69g5fav';
    for (const args of [
      ['worker', url, '--once'],
      ['status', '-u', url],
      ['status', '-u', url, upload],
      ['audit', '-u', url],
      ['block', '-u', url, cache.storePath],
      ['block', '-u', url, '--undo', cache.storePath],
      ['resign', '-u', url],
      ['key', 'rotate', '-u', url],
      ['key', 'retire', '-u', url, 'small-1'],
      ['config', 'show', '-u', url],
      ['config', 'edit', '-u', url],
      ['config', 'download', '-u', url],
      ['config', 'upload', '-u', url, file],
      ['serve', url, '--port', '0'],
    ]) {
      const { status, stderr } = await runCommand(args, { env });
      const command = args.slice(0, 2).join(' ');
      assert.equal(status, 1, command);
      assert.match(stderr, /^niche: opening the cache at .* failed: over plain HTTP/, command);
      assert.match(stderr, /^hint: specify the cache by an https:\/\/ URL/m, command);
      assert.deepEqual([...server.requests, ...storage.requests], [], command);
    }
    // These may notice first that there is no Nix.
    for (const args of [
      ['push', '-u', url, cache.storePath],
      ['build', '-u', url, '--', 'nixpkgs#hello'],
      ['exec', '-u', url, '--', 'true'],
    ]) {
      assert.equal((await runCommand(args, { env })).status, 1);
      assert.deepEqual([...server.requests, ...storage.requests], [], args[0]);
    }
  });

  test('reading sends this machine’s credentials to no upstream of niche.json', async (t) => {
    const { storage, credentials, env, remote } = await attack(t);
    const { upstreams } = await openCacheReader(remote, {
      hasCredentials: () => true,
      credentialsFor: () => ({ kind: 'azure', accountKey: env.AZURE_STORAGE_KEY }),
      identities: [],
    });
    await upstreams.findNarInfo('0'.repeat(32));
    assert.equal(storage.requests.length, 1);
    assert.deepEqual(credentials, []);
  });
});
