import assert from 'node:assert/strict';
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { formatPublicKey, parseSecretKey } from '../../../core/nix/keys.ts';
import { runCommand } from '../../support/lab/command.ts';
import { temporaryFileBucket } from '../../support/buckets/file-bucket.ts';
import { makeBucketCache, testPublicKey, testSecretKey } from '../../support/cache/bucket-cache.ts';

const folder = await mkdtemp(join(tmpdir(), 'niche-key-'));
const { bucket, close } = await temporaryFileBucket();
await makeBucketCache(bucket);
const testKeyFile = join(folder, 'test.secret');
await writeFile(testKeyFile, `${testSecretKey}\n`);
after(async () => {
  await close();
  await rm(folder, { recursive: true });
});

test('key generate writes a key in Nix’s format for its owner only, and never replaces a file', async () => {
  const file = join(folder, 'new/acme-2.secret');
  const args = ['key', 'generate', '--name', 'acme-2', '--secret-key-file', 'new/acme-2.secret'];
  const run = await runCommand(args, { cwd: folder });
  assert.deepEqual([run.status, run.stderr], [0, '']);
  const text = await readFile(file, 'utf8');
  assert.match(text, /^acme-2:[A-Za-z0-9+/]{86}==\n$/);
  const publicKey = formatPublicKey(parseSecretKey(text).publicKey);
  assert.equal(
    run.stdout,
    `public key: ${publicKey}\nsecret key: ${file} (back it up, it cannot be recreated)\n`,
  );
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  assert.equal((await stat(join(folder, 'new'))).mode & 0o777, 0o700);

  assert.deepEqual(await runCommand(args, { cwd: folder }), {
    status: 1,
    stdout: '',
    stderr: `niche: cannot create the key file "${file}": it already exists\nhint: pass another file with --secret-key-file\n`,
  });
  assert.equal(await readFile(file, 'utf8'), text);
});

test('key generate writes to the user’s configuration by default', async () => {
  const env = { XDG_CONFIG_HOME: join(folder, 'config') };
  const run = await runCommand(['key', 'generate', '--name', 'acme-3', '--json'], { env });
  assert.deepEqual([run.status, run.stderr], [0, '']);
  const file = join(folder, 'config/niche/keys/acme-3.secret');
  const publicKey = formatPublicKey(parseSecretKey(await readFile(file, 'utf8')).publicKey);
  assert.deepEqual(JSON.parse(run.stdout), { publicKey, secretKeyFile: file });
});

test('key generate refuses invalid names of keys and files', async () => {
  const env = { XDG_CONFIG_HOME: join(folder, 'none') };
  const cases: readonly (readonly [string, string])[] = [
    ['a:b', 'cannot generate a key: expected a name without colons or white space, got "a:b"'],
    ['', 'cannot generate a key: expected a name without colons or white space, got ""'],
    ['../a', 'no default file for the key "../a": expected a file name'],
    ['..', 'no default file for the key "..": expected a file name'],
  ];
  for (const [name, message] of cases) {
    const run = await runCommand(['key', 'generate', '--name', name], { env });
    assert.deepEqual([run.status, run.stdout], [1, '']);
    assert.equal(run.stderr.split('\n')[0], `niche: ${message}`);
  }
  assert.ok(!(await readdir(folder)).includes('none'));
  const { status, stderr } = await runCommand(['key', 'generate']);
  assert.equal(status, 1);
  assert.match(stderr, /required option '--name <name>' not specified/);
});

test('key show prints the public key of a file or of stdin', async () => {
  const shown = { status: 0, stdout: `${testPublicKey}\n`, stderr: '' };
  assert.deepEqual(await runCommand(['key', 'show', 'test.secret'], { cwd: folder }), shown);
  assert.deepEqual(await runCommand(['key', 'show'], { input: `${testSecretKey}\n` }), shown);
  assert.deepEqual(await runCommand(['key', 'show', '-'], { input: testSecretKey }), shown);
  const { stdout } = await runCommand(['key', 'show', '--json', testKeyFile]);
  assert.deepEqual(JSON.parse(stdout), { publicKey: testPublicKey });
});

test('key show needs a key', async () => {
  const run = await runCommand(['key', 'show']);
  assert.equal(run.status, 1);
  assert.match(
    run.stderr,
    /^niche: no key given\nhint: pass a file, or the secret key on standard input\n$/,
  );
});

test('key show checks whether the cache uses the key', async () => {
  assert.deepEqual(await runCommand(['key', 'show', '-u', bucket.url, testKeyFile]), {
    status: 0,
    stdout: `${testPublicKey}\n`,
    stderr: 'niche: the cache test uses this key\n',
  });
  const file = join(folder, 'other.secret');
  const made = await runCommand(['key', 'generate', '--name', 'test-1', '--secret-key-file', file]);
  const publicKey = /^public key: (.*)$/m.exec(made.stdout)?.[1] ?? '';
  const run = await runCommand(['key', 'show', '-u', bucket.url, '--json', file]);
  assert.deepEqual(
    [run.status, run.stderr, JSON.parse(run.stdout)],
    [
      1,
      `niche: the cache test does not use this key, but ${testPublicKey}\n`,
      { publicKey, cache: 'test', isCacheKey: false },
    ],
  );
});

test('no message contains an invalid secret key', async () => {
  const secret = testSecretKey.slice('test-1:'.length);
  const other = `${testSecretKey.slice(0, -10)}AAAAAAAA==`;
  const inputs = [secret, testSecretKey.slice(0, -4), other, `${testSecretKey}\n${testSecretKey}`];
  const file = join(folder, 'bad.secret');
  for (const input of inputs) {
    await writeFile(file, input);
    for (const args of [
      ['key', 'show'],
      ['key', 'show', file],
    ]) {
      const env = { NICHE_DEBUG: '1' };
      const { status, stdout, stderr } = await runCommand(args, { input, env });
      assert.deepEqual([status, stdout], [1, '']);
      assert.match(stderr, /malformed secret key/);
      assert.ok(!stderr.includes(secret.slice(0, 12)) && !stderr.includes(secret.slice(-14, -2)));
    }
  }
  assert.deepEqual(await runCommand(['key', 'show', join(folder, 'gone')]), {
    status: 1,
    stdout: '',
    stderr: `niche: no key file "${join(folder, 'gone')}"\n`,
  });
});
