import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ownCacheConfig } from '../../../cli/nix/own-cache.ts';
import { parseSettings } from '../../../cli/nix/settings.ts';

const cache = { substituter: 'https://cache.example', publicKeys: ['a:AA==', 'b:BB=='] };

test('a trusted user substitutes from the cache with its keys', () => {
  const config = ownCacheConfig({ trusted: true, settings: parseSettings('{}') }, cache);
  assert.deepEqual(config, [
    ['extra-substituters', 'https://cache.example'],
    ['extra-trusted-public-keys', 'a:AA== b:BB=='],
  ]);
});

test('an untrusted user substitutes only if an administrator allows the cache', () => {
  assert.deepEqual(ownCacheConfig({ trusted: false, settings: parseSettings('{}') }, cache), []);
  const allowed = parseSettings('{"trusted-substituters":{"value":["https://cache.example"]}}');
  assert.deepEqual(ownCacheConfig({ trusted: false, settings: allowed }, cache), [
    ['extra-substituters', 'https://cache.example'],
  ]);
});

test('Nix gets the URL as its settings spell it', () => {
  const spelled = 'https://cache.example/?priority=10';
  const used = parseSettings(JSON.stringify({ substituters: { value: [spelled] } }));
  const [ofTrusted] = ownCacheConfig({ trusted: true, settings: used }, cache);
  assert.deepEqual(ofTrusted, ['extra-substituters', spelled]);
  const allowed = parseSettings(JSON.stringify({ 'trusted-substituters': { value: [spelled] } }));
  assert.deepEqual(ownCacheConfig({ trusted: false, settings: allowed }, cache), [
    ['extra-substituters', spelled],
  ]);
});
