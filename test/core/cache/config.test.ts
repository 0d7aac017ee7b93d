import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatConfig, parseConfig, readConfig } from '../../../core/cache/config.ts';
import { initCache } from '../../../core/cache/init.ts';
import { openCache, openCacheReader } from '../../../core/cache/open.ts';
import { isNicheError } from '../../../core/errors.ts';
import { parseCacheInfo } from '../../../core/nix/cache-info.ts';
import { formatSecretKey } from '../../../core/nix/keys.ts';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { openFileBucket } from '../../../core/storage/file/driver.ts';
import { listKeys, readObject } from '../../support/assert/bytes.ts';
import { createTestCache, publicKeyOf, testKey } from '../../support/cache/kit.ts';
import { serveFolder } from '../../support/servers/static-server.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';
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

  it('is refused with the name of the damaged field', () => {
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

describe('creating a cache', () => {
  it('writes the objects that Nix reads, and the configuration last', async () => {
    const bucket = memoryBucket();
    await assert.rejects(readConfig(bucket), { code: 'not-a-cache' });
    await initCache(bucket, config);
    assert.deepEqual(await listKeys(bucket), ['niche.json', 'nix-cache-info']);
    assert.deepEqual(await readConfig(bucket), config);
    const info = parseCacheInfo(String(await readObject(bucket, 'nix-cache-info')));
    assert.deepEqual([info.storeDir, info.wantMassQuery, info.priority], ['/nix/store', true, 41]);
  });

  it('never changes an existing cache, even one created at the same time', async () => {
    const other = { ...config, name: 'other' };
    const bucket = memoryBucket();
    await initCache(bucket, config);
    await assert.rejects(initCache(bucket, other), { code: 'cache-exists' });
    const url = 's3://acme?endpoint=http://localhost:9000&region=x';
    await assert.rejects(initCache({ ...bucket, url }, other), {
      hint: `show it with: niche show -u '${url}'`,
    });
    const both = memoryBucket();
    const made = await Promise.allSettled([initCache(both, config), initCache(both, other)]);
    assert.deepEqual(made.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    assert.deepEqual(await readConfig(bucket), config);
  });
});

describe('opening a cache', () => {
  it('finds its storage by its URL; over HTTP it is read-only', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'niche-open-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const url = pathToFileURL(folder).href;
    const here = { ...config, storage: url, private: url, upstreams: [upstream] };
    await initCache(openFileBucket(folder), here);
    const cache = await openCache(url);
    assert.deepEqual(cache.config, here);
    assert.equal(cache.private, cache.public);

    const server = await serveFolder(folder);
    t.after(() => server.close());
    const reader = await openCacheReader(`${server.url}/`);
    assert.deepEqual(reader.config, here);
    assert.equal(reader.reader.url, server.url);
    // What comes over HTTP cannot choose which directory of this machine is written to.
    await assert.rejects(openCache(server.url), { code: 'usage' });
    await assert.rejects(openCacheReader(`${server.url}/missing`), { code: 'not-a-cache' });
    await assert.rejects(openCacheReader('gopher://x'), { code: 'invalid-url' });
  });
});
