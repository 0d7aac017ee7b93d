import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { formatConfig } from '../../../core/cache/config.ts';
import { narInfoKey } from '../../../core/cache/layout.ts';
import { parseNarInfo } from '../../../core/nix/narinfo.ts';
import { readObject } from '../../support/assert/bytes.ts';
import { runCommand } from '../../support/lab/command.ts';
import { temporaryFileBucket } from '../../support/buckets/file-bucket.ts';
import { serveFolder } from '../../support/servers/static-server.ts';
import { makeBucketCache, localTestPath, testPublicKey } from '../../support/cache/bucket-cache.ts';

const { bucket, directory, close } = await temporaryFileBucket();
const cache = await makeBucketCache(bucket);
const lib = await localTestPath('lib');
const app = await localTestPath('app', [lib]);
const damaged = await localTestPath('damaged', [], Buffer.alloc(3000, 'x'));
await cache.publish(lib, app, damaged);
const damagedNar = parseNarInfo(String(await readObject(bucket, narInfoKey(damaged.hash)))).url;
const good = await readObject(bucket, damagedNar);
assert.ok(good);
const server = await serveFolder(directory);
const dead = await serveFolder(directory);
await dead.close();
after(async () => {
  await server.close();
  await close();
});

const otherKey = 'other-1:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=';
const notAudited =
  'not checked: the audit log and withdrawn paths, which require access to the private root\n';

test('verify accepts a valid cache', async () => {
  assert.deepEqual(await runCommand(['verify', '-u', bucket.url]), {
    status: 0,
    stdout: '3 paths of test verified (3.8 KiB): nothing wrong\n',
    stderr: '',
  });
  const json = await runCommand(['verify', '--json'], { env: { NICHE_CACHE_URL: bucket.url } });
  assert.deepEqual(
    [json.status, json.stderr, JSON.parse(json.stdout)],
    [
      0,
      '',
      {
        kind: 'summary',
        paths: 3,
        narBytes: lib.info.narSize + app.info.narSize + damaged.info.narSize,
        realisations: 0,
        audited: true,
        wrong: 0,
        unchecked: 0,
        warnings: 0,
      },
    ],
  );
});

test('verify takes paths in every form', async () => {
  for (const name of [lib.path, lib.path.slice('/nix/store/'.length), lib.hash]) {
    const run = await runCommand(['verify', '-u', directory, name]);
    assert.deepEqual(run, {
      status: 0,
      stdout: '1 path of test verified (288 B): nothing wrong\n',
      stderr: '',
    });
  }
  const closure = await runCommand(['verify', '-u', directory, '--closure', app.path]);
  assert.equal(closure.stdout, '2 paths of test verified (624 B): nothing wrong\n');
});

test('verify over HTTP needs paths, and does not check the audit log', async () => {
  const run = await runCommand(['verify', '-u', server.url, '--closure', app.hash]);
  assert.deepEqual(run, {
    status: 0,
    stdout: `2 paths of test verified (624 B): nothing wrong\n${notAudited}`,
    stderr: '',
  });
  assert.deepEqual(await runCommand(['verify', '-u', server.url]), {
    status: 1,
    stdout: '',
    stderr: `niche: no paths given: cannot list "${server.url}" over HTTP
hint: pass store paths, with --closure to check their references too
`,
  });
});

test('verify warns about keys sent over plain HTTP', async () => {
  // Linux treats this address as its own, but niche treats it as remote.
  const url = server.url.replace('127.0.0.1', '0.0.0.0');
  const run = await runCommand(['verify', '-u', url, lib.hash]);
  assert.deepEqual(run, {
    status: 0,
    stdout: `1 path of test verified (288 B): nothing wrong\n${notAudited}`,
    stderr:
      'niche: warning: cannot trust public keys sent over plain HTTP: pin them with --public-key\n',
  });
  const pinned = await runCommand(['verify', '-u', url, '--public-key', testPublicKey, lib.hash]);
  assert.deepEqual([pinned.status, pinned.stderr], [0, '']);
});

test('verify reports the error of each path', async (t) => {
  await writeFile(join(directory, damagedNar), good.subarray(0, 60));
  t.after(() => writeFile(join(directory, damagedNar), good));
  const run = await runCommand(['verify', '-u', bucket.url]);
  assert.deepEqual([run.status, run.stderr], [76, '']);
  const lines = run.stdout.split('\n');
  assert.equal(lines.length, 4);
  assert.match(
    lines[0] ?? '',
    new RegExp(
      `^wrong: ${damaged.path}: ${damagedNar} does not decompress as zstd: .* \\(damaged-file\\)$`,
    ),
  );
  assert.deepEqual(lines.slice(1), [
    `wrong: ${damaged.path}: ${damagedNar}: expected ${good.length} bytes, got 60 (file-size-mismatch)`,
    '3 paths of test verified (3.8 KiB): 1 wrong',
    '',
  ]);
  const json = await runCommand(['verify', '-u', server.url, '--json', damaged.hash]);
  assert.equal(json.status, 76);
  const records = json.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    records.map(({ kind, code, subject }) => [kind, code, subject]),
    [
      ['wrong', 'damaged-file', damaged.path],
      ['wrong', 'file-size-mismatch', damaged.path],
      ['summary', undefined, undefined],
    ],
  );
  assert.deepEqual([records[2]?.['wrong'], records[2]?.['audited']], [1, false]);
});

test('verify reports a missing path, and a warning', async (t) => {
  const listing = `${lib.hash}.ls`;
  const text = await readObject(bucket, listing);
  assert.ok(text);
  await rm(join(directory, listing));
  t.after(() => writeFile(join(directory, listing), text));
  const missing = await localTestPath('missing');
  const run = await runCommand(['verify', '-u', bucket.url, lib.path, missing.path]);
  assert.deepEqual([run.status, run.stderr], [76, '']);
  assert.deepEqual(run.stdout.split('\n').sort(), [
    '',
    '2 paths of test verified (288 B): 1 wrong, 1 warning',
    `warning: ${lib.path}: its listing ${listing} is missing (missing-listing)`,
    `wrong: ${missing.path}: ${missing.hash}.narinfo is missing (missing-narinfo)`,
  ]);
});

test('verify uses pinned keys', async () => {
  const bad = await runCommand(['verify', '-u', bucket.url, '--public-key', otherKey, lib.path]);
  assert.deepEqual([bad.status, bad.stderr], [76, '']);
  assert.equal(
    bad.stdout.split('\n')[0],
    `wrong: ${lib.path}: expected a signature that verifies under ${otherKey}, got "test-1" (unsigned)`,
  );
  const both = ['--public-key', otherKey, '--public-key', testPublicKey];
  const run = await runCommand(['verify', '-u', bucket.url, ...both, lib.path]);
  assert.equal(run.status, 0);
  const malformed = await runCommand(['verify', '-u', bucket.url, '--public-key', 'what']);
  assert.equal(malformed.status, 1);
  assert.equal(malformed.stdout, '');
  assert.match(malformed.stderr, /public key without a name: expected <name>:<base64 of 32/);
  const secret = Buffer.alloc(64, 7).toString('base64');
  const wrongHalf = await runCommand(['verify', '-u', bucket.url, '--public-key', `k:${secret}`]);
  assert.equal(wrongHalf.status, 1);
  assert.match(wrongHalf.stderr, /malformed public key "k": .*got a secret key/);
  assert.ok(!wrongHalf.stderr.includes(secret.slice(0, 8)));
});

test('verify does not fail a cache whose upstream is down', async (t) => {
  const other = await temporaryFileBucket();
  t.after(other.close);
  const reader = bucket;
  const up = { reader, publicKey: testPublicKey, url: bucket.url };
  const user = await makeBucketCache(other.bucket, { upstreams: [up] });
  await user.publish(app);
  const upstream = await runCommand(['verify', '-u', other.directory]);
  // Here its reference is in the upstream; then the upstream is gone.
  assert.deepEqual([upstream.status, upstream.stderr], [0, '']);
  const config = { ...user.config, upstreams: [{ url: dead.url, publicKey: testPublicKey }] };
  await writeFile(join(other.directory, 'niche.json'), formatConfig(config));
  const run = await runCommand(['verify', '-u', other.directory]);
  assert.deepEqual([run.status, run.stderr], [1, '']);
  const [line = '', ...rest] = run.stdout.split('\n');
  assert.match(
    line,
    new RegExp(
      `^could not check: ${app.path}: cannot look up ${lib.hash} in the upstream ${dead.url}: .* \\(upstream-unavailable\\)$`,
    ),
  );
  assert.deepEqual(rest, [
    '1 path of test verified (336 B): nothing wrong, 1 could not be checked',
    '',
  ]);
});

test('verify refuses invalid input', async () => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [[], /^niche: no cache given\nhint: pass -u URL or set NICHE_/],
    [
      ['s3://acme?region=us-east-1&endpoint=http://127.0.0.1:9'],
      /^niche: expected a store path, got a URL: "s3:[^"]+"\nhint: pass the cache with -u: niche verify -u 's3:[^']+:9'\n$/,
    ],
    [
      ['-u', bucket.url, 'hello'],
      /^niche: expected a path in "\/nix\/store", a link to one, or its hash, got "hello"\n$/,
    ],
    [
      ['-u', bucket.url, '/gnu/store/x'],
      /^niche: expected a path in "\/nix\/store", a link to one, or its hash, got "\/gnu\/store\/x"\n$/,
    ],
    [
      ['-u', `${bucket.url}/nar`],
      /^niche: there is no cache at file:\S+\/nar: niche.json is missing\n/,
    ],
    [
      ['-u', `${bucket.url}-2`],
      /^niche: opening the bucket file:\S+-2 failed: expected a directory/,
    ],
    [['-u', dead.url, lib.path], /^niche: reading http:\S+\/niche.json failed: /],
  ];
  for (const [args, stderr] of cases) {
    const run = await runCommand(['verify', ...args]);
    assert.deepEqual([run.status, run.stdout], [1, '']);
    assert.match(run.stderr, stderr);
  }
});

test('verify --help shows examples', async () => {
  const { status, stdout, stderr } = await runCommand(['verify', '--help']);
  assert.deepEqual([status, stderr], [0, '']);
  assert.match(stdout, /^Usage: niche verify \[options\] \[path\.\.\.\]\n/);
  assert.match(stdout, /\nExamples:\n {2}niche verify -u /);
});
