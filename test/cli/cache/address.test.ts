import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import {
  assertKeysPinned,
  trustedKeys,
  parseCacheAddress,
  normalizeCacheUrl,
  printedCacheOption,
} from '../../../cli/cache/address.ts';
import type { Context } from '../../../cli/process/context.ts';
import { refuses } from '../../support/assert/refuses.ts';

const one = 'acme-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=';
const other = 'acme-2:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=';

const context = (env: Record<string, string> = {}): Context => ({
  env,
  secrets: {},
  cwd: '/here',
  version: '0',
  stdout: { write: () => undefined, clearLine: () => undefined, isTty: false, columns: 80 },
  stderr: { write: () => undefined, clearLine: () => undefined, isTty: false, columns: 80 },
  stdin: process.stdin,
  setExitStatus: () => undefined,
});

describe('cache addresses', () => {
  for (const [text, url] of [
    ['/srv/cache', 'file:///srv/cache'],
    ['./cache', 'file:///here/cache'],
    ['file:///srv/cache/', 'file:///srv/cache'],
    ['cache.acme.example', 'https://cache.acme.example'],
    ['acme.s3.amazonaws.com/p/', 'https://acme.s3.amazonaws.com/p'],
    ['minio.example:9000/acme', 'https://minio.example:9000/acme'],
    ['localhost:9000/acme', 'https://localhost:9000/acme'],
    ['127.0.0.1:9000', 'https://127.0.0.1:9000'],
    ['http://127.0.0.1:9000/acme/', 'http://127.0.0.1:9000/acme'],
    ['s3://acme?region=eu-central-1', 's3://acme?region=eu-central-1'],
    ['gs://acme/', 'gs://acme'],
    ['https://acme.example/?priority=10', 'https://acme.example'],
    ['s3://acme?region=x&compression=zstd', 's3://acme?region=x'],
    ['file:///srv/cache?priority=5', 'file:///srv/cache'],
    ['/srv/cache?priority=5', 'file:///srv/cache%3Fpriority=5'],
  ] as const) {
    test(`${text} is ${url}`, () => {
      assert.equal(normalizeCacheUrl(text, '/here'), url);
    });
  }

  test('keys after # and in options are merged without duplicates', () => {
    const { url, pinnedKeys } = parseCacheAddress(
      `https://acme.example/#${one}`,
      [other, one],
      context(),
    );
    assert.equal(url, 'https://acme.example');
    assert.deepEqual(pinnedKeys, [one, other]);
    const encoded = parseCacheAddress(`acme.example#${encodeURIComponent(one)}`, [], context());
    assert.deepEqual(encoded.pinnedKeys, [one]);
  });

  test('NICHE_CACHE_URL can contain keys', () => {
    const named = parseCacheAddress(
      undefined,
      [],
      context({ NICHE_CACHE_URL: `acme.example/p#${one}` }),
    );
    assert.deepEqual(named, { url: 'https://acme.example/p', pinnedKeys: [one] });
  });

  test('the parameters for Nix are separate from the URL', () => {
    const address = parseCacheAddress(`https://acme.example?priority=10#${one}`, [], context());
    assert.deepEqual(address, {
      url: 'https://acme.example',
      storeParameters: 'priority=10',
      pinnedKeys: [one],
    });
  });

  test('invalid addresses are refused', () => {
    refuses('invalid-url', () => parseCacheAddress('https://u:p@acme.example', [], context()));
    refuses('usage', () => parseCacheAddress(undefined, [], context()));
    refuses('usage', () => parseCacheAddress('acme', [], context()));
    refuses('malformed-key', () => parseCacheAddress('https://acme.example#nokey', [], context()));
    refuses('malformed-key', () => parseCacheAddress('https://acme.example#%zz', [], context()));
    refuses('malformed-key', () => parseCacheAddress('https://acme.example', ['nokey'], context()));
    refuses('invalid-url', () => parseCacheAddress('acme.s3.amazonaws.com/acme', [], context()));
    refuses('invalid-url', () => parseCacheAddress('https://s3.amazonaws.com', [], context()));
  });
});

describe('the trusted keys of a cache', () => {
  const config = { publicKeys: [one, other] };

  test('are the pinned keys, or all keys if none is pinned', () => {
    assert.deepEqual(trustedKeys({ url: 'https://a.example', pinnedKeys: [] }, config), [
      one,
      other,
    ]);
    assert.deepEqual(trustedKeys({ url: 'https://a.example', pinnedKeys: [other] }, config), [
      other,
    ]);
    refuses('wrong-key', () =>
      trustedKeys({ url: 'https://a.example', pinnedKeys: [one] }, { publicKeys: [other] }),
    );
  });

  test('are refused over plain HTTP if none is pinned', () => {
    refuses('usage', () => {
      assertKeysPinned({ url: 'http://a.example', pinnedKeys: [] }, config);
    });
    for (const named of [
      { url: 'http://a.example', pinnedKeys: [one] },
      { url: 'https://a.example', pinnedKeys: [] },
      { url: 'http://127.0.0.1:5000', pinnedKeys: [] },
      { url: 'http://localhost', pinnedKeys: [] },
      { url: 's3://acme', pinnedKeys: [] },
    ]) {
      assertKeysPinned(named, config);
    }
  });
});

test('a printed command quotes the cache option for a shell', () => {
  assert.equal(printedCacheOption(undefined), '');
  assert.equal(printedCacheOption('./cache'), ' -u ./cache');
  assert.equal(printedCacheOption('s3://acme?a=1&b=2'), " -u 's3://acme?a=1&b=2'");
});
