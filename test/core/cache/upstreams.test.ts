import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { frameBytes } from '../../../core/cache/zstd/frames.ts';
import { deniedAsMissing } from '../../../core/cache/denied-as-missing.ts';
import { createUpstreams } from '../../../core/cache/upstreams.ts';
import type { Upstreams } from '../../../core/cache/upstreams.ts';
import { maxNarInfoBytes } from '../../../core/limits.ts';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { signFingerprint } from '../../../core/nix/keys.ts';
import { formatNarInfo } from '../../../core/nix/narinfo.ts';
import type { PathInfo } from '../../../core/nix/path-info.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import { openHttpReader } from '../../../core/storage/http/reader.ts';
import { listKeys } from '../../support/assert/bytes.ts';
import { serveAnswers } from '../../support/cache/http.ts';
import type { Answerer } from '../../support/cache/http.ts';
import { checkInvariants } from '../../support/cache/invariants.ts';
import {
  createTestCache,
  dayMs,
  leftPrefixes,
  publicKeyOf,
  testKey,
} from '../../support/cache/kit.ts';
import type { TestCache } from '../../support/cache/kit.ts';
import { testPath } from '../../support/cache/paths.ts';
import { CrashError, crashAtWrite } from '../../support/buckets/crash.ts';

const key = testKey('upstream-1', 7);
const glibc = await testPath('glibc');
const hello = await testPath('hello', { references: [glibc] });
const glibcKey = `${storeHash(glibc.info.path)}.narinfo`;

function narInfoOf(info: PathInfo, by = key): string {
  return formatNarInfo({
    ...info,
    signatures: [signFingerprint(fingerprint(info), by)],
    url: 'nar/x.nar',
    compression: 'none',
    fileHash: null,
    fileSize: null,
    extra: [],
  });
}

interface Served {
  readonly upstreams: Upstreams;
  readonly requests: readonly string[];
}

async function serve(t: TestContext, answer: Answerer, idleTimeoutMs = 10_000): Promise<Served> {
  const { url, requests } = await serveAnswers(t, answer);
  const reader = deniedAsMissing(openHttpReader(url, { retry: { maxAttempts: 1 }, idleTimeoutMs }));
  const upstreams = createUpstreams([{ reader, publicKey: publicKeyOf(key) }], '/nix/store');
  return { upstreams, requests };
}

/** A server that has the narinfo of glibc, and nothing else. */
const has =
  (text: string): Answerer =>
  (path, response) =>
    path === glibcKey ? response.end(text) : response.writeHead(404).end();

/** Publishes hello, which needs glibc. Returns its result and the contents of the cache. */
async function publishHello(t: TestContext, answer: Answerer) {
  const { upstreams } = await serve(t, answer);
  const cache = createTestCache({ upstreams });
  const id = await cache.stage([hello]);
  const [published] = await cache.publish(id);
  await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
  return published?.outcome;
}

const elsewhere = { ...glibc.info, path: hello.info.path };
/** Responses for the narinfo of glibc. */
const unusable: readonly (readonly [about: string, text: string])[] = [
  ['a signature by another key', narInfoOf(glibc.info, testKey('other-1', 8))],
  ['a signature by another key of the same name', narInfoOf(glibc.info, testKey(key.name, 8))],
  ['a signature over something else', narInfoOf(glibc.info).replace(/NarSize: ./, 'NarSize: 9')],
  ['no signature', narInfoOf(glibc.info).replace(/Sig: .*\n/, '')],
  ['the narinfo of another path', narInfoOf(elsewhere)],
  ['an HTML page', '<html>welcome to our hotel</html>'],
  ['nothing', ''],
  ['a narinfo without end', narInfoOf(glibc.info).padEnd(maxNarInfoBytes + 1, '\n')],
];

describe('an upstream', () => {
  it('provides the paths that it has signed', async (t) => {
    assert.equal((await publishHello(t, has(narInfoOf(glibc.info))))?.status, 'published');
  });

  const renamed = { ...glibc.info, path: `${glibc.info.path}-other` };
  for (const [about, text] of [
    ...unusable,
    ['a path of another name', narInfoOf(renamed)] as const,
  ]) {
    it(`does not provide a path if it responds with ${about}`, async (t) => {
      const outcome = await publishHello(t, has(text));
      assert.equal(outcome?.status, 'waiting');
      assert.deepEqual(outcome.missing, [glibc.info.path]);
    });
  }

  it('lacks a path that it denies, if its nix-cache-info can be read', async (t) => {
    const outcome = await publishHello(t, (path, response) => {
      response.writeHead(path === 'nix-cache-info' ? 200 : 403).end();
    });
    assert.equal(outcome?.status, 'waiting');
  });

  const silences: [string, Answerer][] = [
    ['is down', (_, response) => response.writeHead(503).end()],
    ['is denied altogether', (_, response) => response.writeHead(403).end()],
    ['does not answer', () => undefined],
    ['stops in the middle', (_, response) => response.write('StorePath: ')],
    ['hangs up', (_, response) => response.destroy()],
    ['redirects for ever', (path, response) => response.writeHead(302, { location: path }).end()],
    ['fails', (_, response) => response.writeHead(500).end('<html>oops</html>')],
  ];
  for (const [about, answer] of silences) {
    it(`that ${about} decides nothing, and does not count as a crash`, async (t) => {
      // This server never responds usefully, so the test does not wait for it.
      const { upstreams } = await serve(t, answer, 100);
      const cache = createTestCache({ upstreams });
      const id = await cache.stage([hello]);
      for (let n = 0; n < 8; n += 1) {
        await assert.rejects(cache.publish(id), { code: 'upstream-unavailable' });
        cache.advance(3_600_000);
      }
      assert.equal(await cache.receipt(id.upload, hello.info), null);
      assert.equal(cache.publicStore.objects.size, 0);
      assert.equal((await listKeys(cache.staging)).length, 2);
      assert.deepEqual(await leftPrefixes(cache), ['staging']);

      // The same batch is published as soon as the upstream answers.
      const better = await serve(t, has(narInfoOf(glibc.info)));
      const publisher = cache.publisher({ upstreams: better.upstreams });
      const [published] = await cache.publish(id, publisher);
      assert.equal(published?.outcome.status, 'published');
    });
  }

  it('may be down when another one has the path', async (t) => {
    const down = await serveAnswers(t, (_, response) => response.writeHead(503).end());
    const up = await serveAnswers(t, has(narInfoOf(glibc.info)));
    const upstreams = createUpstreams(
      [down, up].map(({ url }) => ({
        reader: deniedAsMissing(openHttpReader(url, { retry: { maxAttempts: 1 } })),
        publicKey: publicKeyOf(key),
      })),
      '/nix/store',
    );
    const lookup = await upstreams.findNarInfo(storeHash(glibc.info.path));
    assert.equal(lookup.kind === 'found' ? lookup.info.path : lookup.kind, glibc.info.path);
    await assert.rejects(upstreams.findNarInfo(storeHash(hello.info.path)), {
      code: 'upstream-unavailable',
    });
  });

  it('keeps its paths: they cannot be published with other contents', async (t) => {
    const changed = await testPath('glibc', { contents: 'evil' });
    const rereferred = await testPath('glibc', { selfReference: true });
    const large = await testPath('glibc', { contents: Buffer.alloc(frameBytes + 1) });
    for (const replaced of [changed, rereferred, large]) {
      const { upstreams } = await serve(t, has(narInfoOf(glibc.info)));
      const cache = createTestCache({ upstreams });
      const id = await cache.stage([replaced]);
      await cache.publish(id);
      assert.equal((await cache.receipt(id.upload, glibc.info))?.code, 'upstream-conflict');
      assert.equal(cache.publicStore.objects.size, 0);
    }
    // The same path may also be in this cache.
    const { upstreams } = await serve(t, has(narInfoOf(glibc.info)));
    const cache = createTestCache({ upstreams });
    const [published] = await cache.publish(await cache.stage([glibc]));
    assert.equal(published?.outcome.status, 'published');
  });

  it('is not needed to verify its signatures', async (t) => {
    const { upstreams, requests } = await serve(t, (_, response) => response.writeHead(404).end());
    const own = signFingerprint(fingerprint(glibc.info), key);
    const foreign = signFingerprint(fingerprint(glibc.info), testKey('other-1', 8));
    const signatures = [foreign, own, signFingerprint('else', key)];
    assert.deepEqual(upstreams.verifiedSignatures({ ...glibc.info, signatures }), [own]);
    assert.deepEqual(requests, []);

    // The narinfo contains only `own` of the client's signatures.
    const cache = createTestCache({ upstreams });
    await cache.publish(await cache.stage([{ ...glibc, info: { ...glibc.info, signatures } }]));
    const narInfo = Buffer.from(cache.publicStore.objects.get(glibcKey)!.bytes).toString();
    const names = [...narInfo.matchAll(/^Sig: ([^:]*)/gm)].map(([, name]) => name);
    assert.deepEqual(names.sort(), ['test-1', 'upstream-1']);
  });
});

/** A cache with an upstream that responds with `text` for glibc; the test may change it. */
interface ChangingUpstream {
  readonly cache: TestCache;
  text: string | null;
}

async function serveChanging(t: TestContext, text: string): Promise<ChangingUpstream> {
  const upstream = { text: text as string | null };
  const { upstreams } = await serve(t, (path, response) => {
    if (path !== glibcKey || upstream.text === null) response.writeHead(404).end();
    else response.end(upstream.text);
  });
  return Object.assign(upstream, { cache: createTestCache({ upstreams }) });
}

describe('a path that an upstream has in a form that niche cannot use', async () => {
  const evil = await testPath('glibc', { contents: 'evil' });
  const large = await testPath('glibc', { contents: Buffer.alloc(frameBytes + 1) });
  const other = await testPath('other');
  const unsigned = narInfoOf(glibc.info).replace(/Sig: .*\n/, '');

  for (const [about, text] of unusable) {
    it(`is not published with other contents, and not rejected, if that is ${about}`, async (t) => {
      const { cache } = await serveChanging(t, text);
      for (const paths of [[evil, other], [large]]) {
        const id = await cache.stage(paths);
        await cache.publish(id);
        const receipt = await cache.receipt(id.upload, glibc.info);
        assert.equal(receipt?.status, 'waiting');
        assert.equal(receipt.code, 'upstream-unavailable');
        const where = `${glibcKey} in http://127.0.0.1:`;
        const { message = '' } = receipt;
        const start = `comparing ${glibc.info.path} with its upstream: ${where}`;
        assert.ok(message.startsWith(start), message);
        assert.match(message, / is unusable: ./);
        assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
      }
      await cache.sweep();
      assert.equal(cache.publicStore.objects.has(glibcKey), false);
      // The rest of its batch is not held up.
      assert.ok(cache.publicStore.objects.has(`${storeHash(other.info.path)}.narinfo`));
    });
  }

  it('is decided once the upstream is repaired', async (t) => {
    for (const [claimed, repaired, expected] of [
      [glibc, narInfoOf(glibc.info), 'published'],
      [evil, narInfoOf(glibc.info), 'upstream-conflict'],
      [evil, null, 'published'],
    ] as const) {
      const upstream = await serveChanging(t, unsigned);
      const { cache } = upstream;
      const id = await cache.stage([claimed, hello]);
      await cache.publish(id);
      // A reference that readers cannot use is not present.
      assert.deepEqual((await cache.receipt(id.upload, hello.info))?.missing, [glibc.info.path]);
      await cache.sweep();
      assert.equal((await cache.receipt(id.upload, glibc.info))?.status, 'waiting');
      upstream.text = repaired;
      await cache.sweep();
      await cache.sweep();
      const receipt = await cache.receipt(id.upload, glibc.info);
      assert.equal(receipt?.code ?? receipt?.status, expected);
      assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'published');
      assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
      assert.deepEqual(await listKeys(cache.private, 'waiting/'), []);
      await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
    }
  });

  it('is rejected with the reason when it has waited too long', async (t) => {
    const { cache } = await serveChanging(t, unsigned);
    const id = await cache.stage([evil]);
    await cache.publish(id);
    cache.advance(7 * dayMs);
    await cache.sweep();
    const receipt = await cache.receipt(id.upload, glibc.info);
    assert.equal(receipt?.code, 'upstream-conflict');
    assert.match(
      receipt.message ?? '',
      /has waited since .*: it has no valid signature by the key/,
    );
    assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
    assert.deepEqual(await listKeys(cache.private, 'waiting/'), []);
  });

  it('is rejected if it waited for a reference before, and its upstream cannot be used then', async (t) => {
    const upstream = await serveChanging(t, unsigned);
    const { cache } = upstream;
    const dependent = await testPath('glibc', { references: [other] });
    upstream.text = null;
    const id = await cache.stage([dependent]);
    await cache.publish(id);
    upstream.text = unsigned;
    await cache.publish(await cache.stage([other]));
    assert.equal(cache.publicStore.objects.has(glibcKey), false);
    cache.advance(7 * dayMs);
    await cache.sweep();
    assert.equal((await cache.receipt(id.upload, glibc.info))?.code, 'upstream-conflict');
  });

  it('is not lost by a crash at any write', async (t) => {
    for (let nth = 1; ; nth += 1) {
      const upstream = await serveChanging(t, unsigned);
      const { cache } = upstream;
      const id = await cache.stage([glibc]);
      const crash = crashAtWrite(nth, 'before');
      await cache.publish(id, cache.publisher({ hooks: crash })).catch((error: unknown) => {
        assert.ok(error instanceof CrashError);
      });
      cache.advance(3_600_000);
      await cache.sweep();
      assert.equal((await cache.receipt(id.upload, glibc.info))?.status, 'waiting');
      upstream.text = narInfoOf(glibc.info);
      await cache.sweep();
      assert.equal((await cache.receipt(id.upload, glibc.info))?.status, 'published');
      if (!crash.hasCrashed()) break;
    }
  });
});
