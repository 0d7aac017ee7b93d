import assert from 'node:assert/strict';
import { test } from 'node:test';

import { appendNixConfig, isNixConfigValue } from '../../../cli/nix/nix-config.ts';

test('settings are appended to NIX_CONFIG and never replace it', () => {
  const appended = appendNixConfig('access-tokens = github.com=x\n# note', [
    ['post-build-hook', '/tmp/hook'],
    ['extra-substituters', 'file:///cache'],
  ]);
  assert.equal(
    appended,
    'access-tokens = github.com=x\n# note\npost-build-hook = /tmp/hook\nextra-substituters = file:///cache',
  );
  assert.equal(appendNixConfig(undefined, [['a', 'b']]), 'a = b');
  assert.equal(appendNixConfig('', [['a', 'b']]), 'a = b');
});

test('values that nix.conf cannot contain are recognized', () => {
  assert.ok(isNixConfigValue('/tmp/niche-session-x/post-build-hook'));
  for (const value of ['', '/tmp/a b', '/tmp/a#b', 'a\nb']) assert.ok(!isNixConfigValue(value));
});
