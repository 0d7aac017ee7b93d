import assert from 'node:assert/strict';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { narInfoKey } from '../../../core/cache/layout.ts';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { generateSecretKey, signFingerprint } from '../../../core/nix/keys.ts';
import { parseNarInfo } from '../../../core/nix/narinfo.ts';
import { readObject } from '../../support/assert/bytes.ts';
import { runCommand } from '../../support/lab/command.ts';
import { temporaryFileBucket } from '../../support/buckets/file-bucket.ts';
import { serveFolder } from '../../support/servers/static-server.ts';
import { makeBucketCache, localTestPath, testPublicKey } from '../../support/cache/bucket-cache.ts';

const { bucket, directory, close } = await temporaryFileBucket();
const upstream = { reader: bucket, publicKey: testPublicKey, url: 'https://up.example' };
const cache = await makeBucketCache(bucket, { upstreams: [upstream] });
const server = await serveFolder(directory);
after(async () => {
  await server.close();
  await close();
});
const lib = await localTestPath('lib');
const app = await localTestPath('app', [lib], Buffer.alloc(2000, 'x'));
await cache.publish(lib, app);

test('show prints the configuration of a cache', async () => {
  assert.deepEqual(await runCommand(['show', '-u', server.url]), {
    status: 0,
    stdout: `name:        test
read here:   ${server.url}
substituter: ${bucket.url}
storage:     ${bucket.url}
staging:     ${bucket.url}
private:     ${bucket.url}
store:       /nix/store
public keys: ${testPublicKey}
compression: zstd, level 3
upstreams:   https://up.example (${testPublicKey})
limits:      NARs up to 64.0 GiB
             unclaimed references: warn
             missing references: rejected after 7 days
priority:    41
`,
    stderr: '',
  });
  const { stdout } = await runCommand(['show', '--json'], { env: { NICHE_CACHE_URL: bucket.url } });
  assert.deepEqual(JSON.parse(stdout), { url: bucket.url, ...cache.config, priority: 41 });
});

test('show prints the narinfo of a path', async () => {
  const info = parseNarInfo(String(await readObject(bucket, narInfoKey(app.hash))));
  const shown = `path:       ${app.path}
deriver:    unknown
NAR:        2.3 KiB (${app.info.narSize} bytes)
            ${app.info.narHash}
file:       ${info.fileSize} bytes, zstd
            ${info.fileHash}
            ${info.url}
references: ${lib.path}
signatures: test-1: valid, by a key of the cache
`;
  for (const name of [app.path, app.hash]) {
    const run = await runCommand(['show', '-u', bucket.url, name]);
    assert.deepEqual(run, { status: 0, stdout: shown, stderr: '' });
  }
  const { stdout } = await runCommand(['show', '-u', bucket.url, '--json', app.path]);
  const [signature] = info.signatures;
  assert.deepEqual(JSON.parse(stdout), {
    ...info,
    signatures: [{ signature, keyName: 'test-1', verdict: 'cache' }],
  });
});

test('show reports invalid signatures', async () => {
  const text = String(await readObject(bucket, narInfoKey(lib.hash)));
  const signed = (name: string): string =>
    `Sig: ${signFingerprint(fingerprint(lib.info), generateSecretKey(name))}\n`;
  const changed = `${text.replace(/^Sig: .*\n/m, '')}${signed('test-1')}${signed('other-1')}Sig: what\n`;
  await bucket.put(narInfoKey(lib.hash), Buffer.from(changed));
  const { status, stdout } = await runCommand(['show', '-u', bucket.url, lib.hash]);
  assert.equal(status, 0);
  assert.equal(
    stdout.slice(stdout.indexOf('references')),
    `references: none
signatures: other-1: not checked, by an unknown key
            test-1: invalid
            malformed: invalid
`,
  );
});

test('show fails for a missing path', async () => {
  const missing = await localTestPath('missing');
  const cases: readonly (readonly [string, string])[] = [
    [missing.path, `cannot find "${missing.path}" in the cache at "${bucket.url}"`],
    [
      `${app.path}-2`,
      `cannot find "${app.path}-2" in the cache at "${bucket.url}": it has "${app.path}" instead`,
    ],
    ['what', 'expected a path in "/nix/store", a link to one, or its hash, got "what"'],
  ];
  for (const [name, message] of cases) {
    const run = await runCommand(['show', '-u', bucket.url, name]);
    assert.deepEqual(run, { status: 1, stdout: '', stderr: `niche: ${message}\n` });
  }
});

test('show reports a cache without listings', async () => {
  const folder = await temporaryFileBucket();
  try {
    const url = folder.bucket.url;
    const init = ['init', url, '--name', 'plain', '--no-upstream', '--no-listings'];
    const made = await runCommand(init, { env: { HOME: folder.directory } });
    assert.equal(made.status, 0, made.stderr);
    assert.match((await runCommand(['show', '-u', url])).stdout, /^listings: +none$/m);
  } finally {
    await folder.close();
  }
});

test('show warns of keys over plain HTTP, and checks signatures with the pinned ones', async () => {
  // Requests to this address stay on this machine, which niche does not know.
  const elsewhere = server.url.replace('127.0.0.1', '0.0.0.0');
  const open = await runCommand(['show', '-u', elsewhere, app.path]);
  assert.equal(open.status, 0, open.stderr);
  assert.match(open.stderr, /warning: cannot trust public keys sent over plain HTTP/);
  const pinned = await runCommand(['show', '-u', `${elsewhere}#${testPublicKey}`, app.path]);
  assert.deepEqual([pinned.status, pinned.stderr], [0, '']);
  assert.match(pinned.stdout, /valid, by a key of the cache/);
});

test('commands that take a path also take a link to it, such as ./result', async (t) => {
  const cwd = await mkdtemp(join(tmpdir(), 'niche-result-'));
  t.after(() => rm(cwd, { recursive: true }));
  const own = await temporaryFileBucket();
  t.after(own.close);
  await (await makeBucketCache(own.bucket)).publish(lib);
  await symlink(lib.path, join(cwd, 'result'));
  for (const [args, stdout] of [
    [['show', './result'], `path:       ${lib.path}\n`],
    [['verify', './result'], '1 path of test verified'],
    [['audit', '--path', './result'], ` ${lib.path}\n`],
    [['block', './result', '--undo'], `${lib.path}: was not withdrawn\n`],
  ] as const) {
    const run = await runCommand([...args, '-u', own.bucket.url], { cwd });
    assert.deepEqual([run.status, run.stdout.includes(stdout)], [0, true], run.stderr + run.stdout);
  }
});
