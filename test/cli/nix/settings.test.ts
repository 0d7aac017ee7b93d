import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parseSettings } from '../../../cli/nix/settings.ts';

test('settings are parsed, and unknown ones are ignored', () => {
  const json = JSON.stringify({
    'experimental-features': { value: [2, 3] },
    'post-build-hook': { value: '/etc/hook', documentDefault: true },
    'netrc-file': { value: '/etc/nix/netrc' },
    'trusted-public-keys': { value: ['k:AA=='] },
    store: { value: 'daemon' },
    substituters: { value: ['https://cache.example'] },
  });
  assert.deepEqual(parseSettings(json), {
    store: 'daemon',
    evalStore: null,
    substituters: ['https://cache.example'],
    trustedSubstituters: [],
    trustedPublicKeys: ['k:AA=='],
    postBuildHook: '/etc/hook',
    netrcFile: '/etc/nix/netrc',
    hasJsonLog: false,
  });
  assert.equal(parseSettings('{"eval-store":{"value":"auto"}}').evalStore, 'auto');
  assert.equal(parseSettings('{"eval-store":{"value":""}}').evalStore, null);
  assert.equal(parseSettings('{"post-build-hook":{"value":""}}').postBuildHook, null);
});

test('the JSON log is usable if nix has one and the user has not set it', () => {
  const hasJsonLog = (value: unknown) =>
    parseSettings(JSON.stringify({ 'json-log-path': { value } })).hasJsonLog;
  // Nix 2.30 to 2.33 print an empty string, 2.34 null.
  assert.deepEqual(['', null, '/tmp/log'].map(hasJsonLog), [true, true, false]);
});

test('malformed settings are refused', () => {
  for (const json of ['', '[]', '{"store":{"value":1}}', '{"substituters":{"value":"x"}}']) {
    assert.throws(() => parseSettings(json), { code: 'nix-failed' });
  }
});
