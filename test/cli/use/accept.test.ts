import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';

import { checkAcceptance, isMissingConfiguration } from '../../../cli/use/accept.ts';
import type { AcceptInput, Verdict } from '../../../cli/use/accept.ts';
import { narInfoKey } from '../../../core/cache/layout.ts';
import { generateSecretKey, signFingerprint } from '../../../core/nix/keys.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import { isNicheError } from '../../../core/errors.ts';
import type { ObjectReader } from '../../../core/storage/bucket.ts';
import { makeSmallCache } from '../../support/cache/small-cache.ts';
import type { SmallCache, SmallCacheOptions } from '../../support/cache/small-cache.ts';

async function setUp(
  t: TestContext,
  options?: SmallCacheOptions,
): Promise<{ cache: SmallCache; input: AcceptInput }> {
  const cache = await makeSmallCache(t, options);
  const { url, config, bucket, publicKey } = cache;
  const entry = { name: config.name, substituter: url, publicKeys: [publicKey] };
  const nix = {
    version: 'nix (Nix) 2.34.8',
    storeDir: '/nix/store',
    trusted: true,
    substituters: ['https://cache.nixos.org', `${url}/?priority=30`],
    publicKeys: ['no key at all', publicKey],
    permitted: [],
  };
  return { cache, input: { reader: bucket, config, entry, nix, storePath: undefined } };
}

const codes = ({ obstacles }: Verdict): string[] => obstacles.map(({ code }) => code);

describe('checkAcceptance', () => {
  test('accepts a valid cache', async (t) => {
    const { cache, input } = await setUp(t);
    assert.deepEqual(await checkAcceptance(input), {
      accepted: true,
      path: cache.storePath,
      obstacles: [],
    });
    const named = await checkAcceptance({ ...input, storePath: cache.storePath });
    assert.equal(named.accepted, true);
  });

  test('reports a missing configuration', async (t) => {
    const { input } = await setUp(t);
    const nix = { ...input.nix!, substituters: [], publicKeys: [] };
    const verdict = await checkAcceptance({ ...input, nix });
    assert.equal(verdict.accepted, false);
    assert.deepEqual(codes(verdict), ['substituter-missing', 'key-missing']);
    assert.ok(verdict.obstacles.every(isMissingConfiguration));
  });

  test('checks only nix-cache-info without a listing', async (t) => {
    const { cache, input } = await setUp(t);
    const { bucket } = cache;
    const reader: ObjectReader = {
      url: bucket.url,
      head: (key) => bucket.head(key),
      get: (key) => bucket.get(key),
    };
    const verdict = await checkAcceptance({ ...input, reader });
    assert.deepEqual(verdict, { accepted: null, path: null, obstacles: [] });
    const named = await checkAcceptance({ ...input, reader, storePath: cache.storePath });
    assert.equal(named.accepted, true);
  });

  test('checks the signature without Nix', async (t) => {
    const { cache, input } = await setUp(t);
    const verdict = await checkAcceptance({ ...input, nix: null });
    assert.deepEqual(verdict, { accepted: null, path: cache.storePath, obstacles: [] });
  });

  test('refuses another store directory', async (t) => {
    const { input } = await setUp(t, { storeDir: '/other/store' });
    const verdict = await checkAcceptance(input);
    assert.deepEqual(codes(verdict), ['store-dir']);
    assert.equal(verdict.accepted, false);
  });

  test('refuses a path without a signature', async (t) => {
    const { input } = await setUp(t, { signatures: [] });
    assert.deepEqual(codes(await checkAcceptance(input)), ['unsigned']);
  });

  test('refuses a signature by another key of the same name', async (t) => {
    const signature = signFingerprint('1;something else', generateSecretKey('small-1'));
    const { input } = await setUp(t, { signatures: [signature] });
    const verdict = await checkAcceptance(input);
    assert.deepEqual(codes(verdict), ['wrong-signature']);
    assert.match(verdict.obstacles[0]!.message, /only signatures by: small-1$/);
  });

  test('refuses a missing path, and an invalid one', async (t) => {
    const { cache, input } = await setUp(t);
    const storePath = '/nix/store/11bgd045z0d4icpbc2yyz4gx48ak44la-other';
    assert.deepEqual(codes(await checkAcceptance({ ...input, storePath })), ['path-missing']);
    const renamed = `${cache.storePath}-other`;
    assert.deepEqual(codes(await checkAcceptance({ ...input, storePath: renamed })), ['narinfo']);
    await assert.rejects(checkAcceptance({ ...input, storePath: '/etc/passwd' }), (error) =>
      isNicheError(error, 'malformed-store-path'),
    );
  });

  test('refuses damaged and missing objects', async (t) => {
    const { cache, input } = await setUp(t);
    await cache.bucket.delete([cache.narKey]);
    assert.deepEqual(codes(await checkAcceptance(input)), ['nar-missing']);
    await cache.bucket.put(narInfoKey(storeHash(cache.storePath)), Buffer.from('nonsense'));
    assert.deepEqual(codes(await checkAcceptance(input)), ['narinfo']);
    await cache.bucket.put('nix-cache-info', Buffer.from('StoreDir: relative\n'));
    assert.deepEqual(codes(await checkAcceptance(input)), ['cache-info', 'narinfo']);
    await cache.bucket.delete(['nix-cache-info']);
    assert.deepEqual(codes(await checkAcceptance(input)), ['cache-info', 'narinfo']);
  });
});
