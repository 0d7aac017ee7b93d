import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import fc from 'fast-check';

import { isPublicObject } from '../../../core/cache/layout.ts';
import { parseTarget } from '../../../cli/serve/target.ts';

const hash = '00bgd045z0d4icpbc2yyz4gx48ak44la';

describe('parseTarget', () => {
  const objects: readonly (readonly [string, string])[] = [
    ['/nix-cache-info', 'nix-cache-info'],
    ['/niche.json?x=1', 'niche.json'],
    [`/${hash}.narinfo`, `${hash}.narinfo`],
    [`/${hash}%2enarinfo`, `${hash}.narinfo`],
    [`http://proxied.example/${hash}.ls`, `${hash}.ls`],
    [`/nar/${hash}-x.nar.zst`, `nar/${hash}-x.nar.zst`],
    [`/log/${hash}-g++%3F=.drv`, `log/${hash}-g++?=.drv`],
  ];
  for (const [target, key] of objects) {
    test(`${target} is an object`, () => {
      assert.deepEqual(parseTarget(target), { kind: 'object', key });
    });
  }

  for (const target of ['/', '/?', 'http://host', 'http://host?x']) {
    test(`${target} is the landing page`, () => {
      assert.deepEqual(parseTarget(target), { kind: 'landing' });
    });
  }

  const refused: readonly (readonly [string, number])[] = [
    ['/staging/0190/0.json', 404],
    ['/receipts/x', 404],
    ['/audit/2026/01/01/x.jsonl', 404],
    ['/niche.signing.json', 404],
    ['/.niche-tmp/x', 404],
    ['//nix-cache-info', 404],
    ['/nar/', 404],
    ['/nar//x', 404],
    ['/nar/x/', 404],
    ['/NIX-CACHE-INFO', 404],
    ['/nar/../niche.json', 400],
    ['/nar/%2e%2e/niche.json', 400],
    ['/..', 400],
    ['/./nix-cache-info', 400],
    ['/nar%2fx.nar', 400],
    ['/nar%5Cx.nar', 400],
    ['/nar\\x.nar', 400],
    ['/nix-cache-info%00', 400],
    ['/nix-cache-info%0a', 400],
    ['/%', 400],
    ['/%ff', 400],
    ['/nix-cache-info#x', 400],
    ['*', 400],
    ['nix-cache-info', 400],
  ];
  for (const [target, status] of refused) {
    test(`${JSON.stringify(target)} is refused with ${status}`, () => {
      assert.deepEqual(parseTarget(target), { kind: 'refused', status });
    });
  }

  test('returns only public keys for any text', () => {
    const pieces = fc.constantFrom('/', '..', '.', '%2e', '%2F', 'nar', 'staging', 'x.nar', '\0');
    const targets = fc.oneof(
      fc.string(),
      fc.array(fc.oneof(pieces, fc.string())).map((parts) => `/${parts.join('')}`),
    );
    fc.assert(
      fc.property(targets, (target) => {
        const parsed = parseTarget(target);
        assert.ok(parsed.kind !== 'object' || isPublicObject(parsed.key));
      }),
    );
  });
});
