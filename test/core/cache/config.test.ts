import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatConfig, parseConfig } from '../../../core/cache/config.ts';
import { isNicheError } from '../../../core/errors.ts';
import { formatSecretKey } from '../../../core/nix/keys.ts';
import { createTestCache, publicKeyOf, testKey } from '../../support/cache/kit.ts';
import { refuses } from '../../support/assert/refuses.ts';

const { config } = createTestCache();
const upstream = { url: 'https://cache.nixos.org', publicKey: publicKeyOf(testKey('up-1')) };

describe('niche.json', () => {
  it('is read as it was written, with defaults for missing fields', () => {
    assert.deepEqual(parseConfig(formatConfig(config), 'x'), config);
    assert.deepEqual(config.limits, {
      maxNarBytes: 64 * 2 ** 30,
      unclaimed: 'warn',
      waitingDays: 7,
    });
    assert.deepEqual(config.compression, { kind: 'zstd', level: 3 });
    const full = { ...config, upstreams: [upstream] };
    assert.deepEqual(parseConfig(formatConfig(full), 'x'), full);
  });

  it('has an error of its own when it is of a later version', () => {
    const text = JSON.stringify({ version: 2, anything: true });
    refuses('newer-version', () => parseConfig(text, 'x'));
  });

  it('is refused with an error that contains the damaged field', () => {
    const wrong: [string, unknown[]][] = [
      ['version', [0, '1', null, undefined]],
      ['name', ['', 'a b', '../x', 'x'.repeat(64), 'a\n', null, undefined]],
      ['storeDir', ['', 'nix/store', '/nix/store/', '/nix store', '/', null, undefined]],
      ['publicKeys', [[], ['x'], ['a:AAAA'], [`${upstream.publicKey}\n`], null, undefined]],
      ['substituter', ['', 'cache.nixos.org', null, undefined]],
      ['storage', ['', 'not a url', undefined]],
      ['private', ['', undefined]],
      [
        'compression',
        [{ kind: 'xz' }, { kind: 'zstd', level: 0 }, { kind: 'zstd', level: 20 }, 'zstd'],
      ],
      ['upstreams', [[{ url: 'x', publicKey: upstream.publicKey }], [{ url: upstream.url }], {}]],
      ['limits', [{ maxNarBytes: 0 }, { waitingDays: -1 }, { unclaimed: 'x' }, { more: 1 }]],
      ['unknown', [1]],
    ];
    for (const [field, values] of wrong) {
      for (const value of values) {
        const text = JSON.stringify({ ...config, [field]: value });
        try {
          parseConfig(text, 'niche.json of here');
          assert.fail(`took ${field} ${JSON.stringify(value)}`);
        } catch (error) {
          assert.ok(isNicheError(error, 'malformed-config'), String(error));
          assert.ok(error.message.includes(field), error.message);
          assert.ok(error.message.includes('niche.json of here'));
          assert.doesNotMatch(error.message, /\p{Cc}/u);
        }
      }
    }
    for (const text of ['', 'x', '[]', 'null', '{}', '{"version":1', '\u001b']) {
      refuses('malformed-config', () => parseConfig(text, 'x'), text);
    }
  });

  it('never shows a secret key in place of a public one', () => {
    const secret = formatSecretKey(testKey('test-1'));
    const text = JSON.stringify({
      ...config,
      publicKeys: [secret],
      upstreams: [{ ...upstream, publicKey: secret }],
    });
    assert.throws(
      () => parseConfig(text, 'x'),
      ({ message }: Error) => {
        assert.match(message, /publicKeys\.0: .*got a secret key; upstreams\.0\.publicKey: /);
        assert.ok(!message.includes(secret.slice(-80, -8)));
        return true;
      },
    );
  });
});
