import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import {
  formatStoreUrl,
  hasStore,
  isSameStore,
  parseStoreUrl,
} from '../../../core/nix/store-url.ts';

describe('the URL of a binary cache as users write it for Nix', () => {
  for (const [text, url, parameters] of [
    ['https://cache.nixos.org', 'https://cache.nixos.org', ''],
    ['https://cache.nixos.org?priority=10', 'https://cache.nixos.org', 'priority=10'],
    ['https://a.example/?trusted=1&priority=10', 'https://a.example/', 'trusted=1&priority=10'],
    ['https://a.example?token=x', 'https://a.example?token=x', ''],
    ['https://a.example?priority=10#acme-1:AA', 'https://a.example#acme-1:AA', 'priority=10'],
    ['https://a.example#acme-1:AA?priority=10', 'https://a.example#acme-1:AA?priority=10', ''],
    [
      's3://acme?region=eu-central-1&compression=zstd&endpoint=http://minio:9000&secret-key=/key&scheme=http&parallel-compression=true&profile=ci&want-mass-query=true',
      's3://acme?region=eu-central-1&endpoint=http://minio:9000&scheme=http&profile=ci',
      'compression=zstd&secret-key=/key&parallel-compression=true&want-mass-query=true',
    ],
    ['file:///srv/cache?priority=5', 'file:///srv/cache', 'priority=5'],
  ] as const) {
    test(`${text} loses only the parameters that concern Nix alone`, () => {
      assert.deepEqual(parseStoreUrl(text), { url, parameters });
    });
  }

  test('gets its parameters back', () => {
    for (const [url, parameters, text] of [
      ['https://a.example', '', 'https://a.example'],
      ['https://a.example', 'priority=10', 'https://a.example?priority=10'],
      ['s3://acme?region=x', 'priority=10', 's3://acme?region=x&priority=10'],
    ] as const) {
      assert.equal(formatStoreUrl({ url, parameters }), text);
    }
  });

  test('identifies the cache without its parameters, trailing slashes and spelling', () => {
    for (const [one, other] of [
      ['https://cache.nixos.org', 'https://cache.nixos.org/?priority=10'],
      ['https://cache.nixos.org', 'HTTPS://Cache.NixOS.org:443//'],
      ['https://a.example?unknown=1', 'https://a.example'],
      ['s3://acme?region=x&priority=1', 's3://acme?region=x'],
      ['not a url', 'not a url'],
    ] as const) {
      assert.ok(isSameStore(one, other), `${one} and ${other}`);
    }
    for (const [one, other] of [
      ['https://a.example/x', 'https://a.example/y'],
      ['http://a.example', 'https://a.example'],
      ['s3://acme?endpoint=https://one.example', 's3://acme?endpoint=https://two.example'],
    ] as const) {
      assert.ok(!isSameStore(one, other), `${one} and ${other}`);
    }
    assert.ok(hasStore(['https://b.example', 'https://a.example?trusted=1'], 'https://a.example'));
  });
});
