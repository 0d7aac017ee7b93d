import assert from 'node:assert/strict';
import { mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';

import { serveCache } from '../../../cli/serve/server.ts';
import { snippetFor } from '../../../cli/use/snippets.ts';
import { formatConfig } from '../../../core/cache/config.ts';
import { formatPublicKey, generateSecretKey } from '../../../core/nix/keys.ts';
import { runCommand } from '../../support/lab/command.ts';
import type { CommandResult } from '../../support/lab/command.ts';
import { requireNix } from '../../support/lab/nix-lab.ts';
import { makeSmallCache, temporaryFolder } from '../../support/cache/small-cache.ts';

interface Home {
  readonly conf: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly use: (...args: string[]) => Promise<CommandResult>;
}

/** A separate home folder, and a Nix without any other configuration. */
async function makeHome(t: TestContext, more: Record<string, string> = {}): Promise<Home> {
  const home = await temporaryFolder(t);
  const conf = join(home, '.config/nix/nix.conf');
  const env = {
    HOME: home,
    XDG_CONFIG_HOME: undefined,
    XDG_CONFIG_DIRS: join(home, 'none'),
    NIX_USER_CONF_FILES: undefined,
    NIX_CONFIG: undefined,
    NIX_CONF_DIR: join(home, 'etc'),
    NIX_REMOTE: join(home, 'root'),
    ...more,
  };
  return { conf, env, use: (...args) => runCommand(['use', ...args], { env }) };
}

/** The environment with Nix on the PATH; null if there is no Nix. */
function pathWithNix(t: TestContext): { PATH: string; NIX_BIN_DIR: string } | null {
  const nix = requireNix(t);
  return nix && { PATH: `${nix.bin}:${process.env['PATH'] ?? ''}`, NIX_BIN_DIR: nix.bin };
}

const otherKey = formatPublicKey(generateSecretKey('other-1').publicKey);

describe('niche use', () => {
  test('writes, updates and removes the block', async (t) => {
    const nix = pathWithNix(t);
    if (!nix) return;
    const cache = await makeSmallCache(t);
    const { conf, use } = await makeHome(t, nix);
    const former = '# mine\nsandbox = false';
    await mkdir(dirname(conf), { recursive: true });
    await writeFile(conf, former, { mode: 0o600 });

    const advised = await use(cache.url, '--json');
    assert.equal(advised.status, 0, advised.stderr);
    const advice = JSON.parse(advised.stdout) as Record<string, unknown>;
    assert.equal(advice['placement'], 'user');
    assert.equal(advice['file'], conf);
    assert.equal(advice['accepted'], false);
    assert.equal(await readFile(conf, 'utf8'), former);

    const written = await use(cache.url, '--write', '--json');
    assert.equal(written.status, 0, written.stderr);
    const done = JSON.parse(written.stdout) as { accepted: boolean; written: object };
    assert.equal(done.accepted, true);
    assert.deepEqual(done.written, { file: conf, change: 'added', before: null });
    const text = await readFile(conf, 'utf8');
    assert.equal(
      text,
      `${former}\n# niche: small begin\nextra-substituters = ${cache.url}\nextra-trusted-public-keys = ${cache.publicKey}\n# niche: small end`,
    );
    assert.equal((await stat(conf)).mode & 0o777, 0o600);

    const again = await use(cache.url, '--write');
    assert.equal(again.status, 0, again.stderr);
    assert.match(again.stdout, /already has it\n/);
    assert.match(again.stdout, /Nix accepts the cache/);
    assert.equal(await readFile(conf, 'utf8'), text);

    const rotated = { ...cache.config, publicKeys: [cache.publicKey, otherKey] };
    await cache.bucket.put('niche.json', Buffer.from(formatConfig(rotated)));
    assert.match((await use(cache.url, '--write')).stdout, /updated in /);
    assert.ok((await readFile(conf, 'utf8')).includes(` ${otherKey}\n`));

    await cache.bucket.delete(['niche.json']);
    const removed = await use(`${cache.url}/`, '--remove');
    assert.equal(removed.status, 0, removed.stderr);
    assert.equal(await readFile(conf, 'utf8'), former);
    assert.match((await use(cache.url, '--remove')).stdout, /nothing to remove/);
  });

  test('writes the URL with the parameters that the user gave for Nix', async (t) => {
    const nix = pathWithNix(t);
    if (!nix) return;
    const cache = await makeSmallCache(t);
    const { conf, use } = await makeHome(t, nix);
    const written = await use(`${cache.url}/?priority=10&trusted=1`, '--write', '--json');
    assert.equal(written.status, 0, written.stderr);
    assert.equal((JSON.parse(written.stdout) as { accepted: boolean }).accepted, true);
    const line = `extra-substituters = ${cache.url}?priority=10&trusted=1`;
    assert.ok((await readFile(conf, 'utf8')).split('\n').includes(line));
    assert.match((await use(cache.url)).stdout, /Nix already uses it/);
    const removed = await use(cache.url, '--remove');
    assert.match(removed.stdout, /^removed /);
    await assert.rejects(readFile(conf), { code: 'ENOENT' });
  });

  test('does not change a symbolic link, and prints what to do', async (t) => {
    const nix = pathWithNix(t);
    if (!nix) return;
    const cache = await makeSmallCache(t);
    const { conf, use } = await makeHome(t, nix);
    await mkdir(dirname(conf), { recursive: true });
    const target = join(dirname(conf), 'generated');
    await writeFile(target, 'sandbox = false\n');
    await symlink(target, conf);
    const { status, stderr } = await use(cache.url, '--write');
    assert.equal(status, 1);
    assert.match(stderr, /is a symbolic link to .*, as Home Manager creates them/);
    assert.ok(stderr.includes(`extra-trusted-public-keys = [ "${cache.publicKey}" ];`));
    assert.equal(await readFile(target, 'utf8'), 'sandbox = false\n');
  });

  test('writes nothing if the system already uses the cache', async (t) => {
    const nix = pathWithNix(t);
    if (!nix) return;
    const cache = await makeSmallCache(t);
    const NIX_CONFIG = `substituters = ${cache.url}\ntrusted-public-keys = ${cache.publicKey}`;
    const { conf, use } = await makeHome(t, { ...nix, NIX_CONFIG });
    const { status, stdout, stderr } = await use(cache.url, '--write');
    assert.equal(status, 0, stderr);
    assert.match(stdout, /Nix already uses it/);
    await assert.rejects(readFile(conf), { code: 'ENOENT' });
  });

  test('prints the lines for nix.conf without Nix', async (t) => {
    const cache = await makeSmallCache(t);
    const { use } = await makeHome(t, { PATH: '/nowhere' });
    const { status, stdout, stderr } = await use(cache.url);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /Nix is not on the PATH/);
    assert.ok(stdout.includes(`\n  extra-substituters = ${cache.url}\n`));
    assert.ok(stdout.includes(`\n  extra-trusted-public-keys = ${cache.publicKey}\n`));
    assert.ok(stdout.includes(`The signature of ${cache.storePath} is valid.`));
  });

  test('prints only the snippet with --for', async (t) => {
    const cache = await makeSmallCache(t);
    const { use } = await makeHome(t, { PATH: '/nowhere' });
    for (const kind of ['flake', 'gitlab'] as const) {
      const { status, stdout, stderr } = await use(cache.url, '--for', kind);
      assert.equal(status, 0);
      assert.match(stderr, /niche: paste this into /);
      const { url: substituter, publicKey } = cache;
      const entry = { name: 'small', substituter, publicKeys: [publicKey] };
      assert.equal(stdout, snippetFor(kind, entry));
    }
    const { stdout } = await use(cache.url, '--for', 'nixos', '--json');
    const result = JSON.parse(stdout) as Record<string, unknown>;
    assert.deepEqual([result['for'], result['url']], ['nixos', cache.url]);
  });

  test('pins keys over HTTP, or warns', async (t) => {
    const cache = await makeSmallCache(t);
    const allowedHosts = ['0.0.0.0'];
    const listen = { reader: cache.bucket, host: '127.0.0.1', port: 0, allowedHosts };
    const server = await serveCache(listen);
    t.after(() => server.close());
    const { use } = await makeHome(t, { PATH: '/nowhere' });

    // Nobody can intercept requests to the loopback address. Any other address may be intercepted.
    const elsewhere = server.url.replace('127.0.0.1', '0.0.0.0');
    for (const [url, warning] of [
      [server.url, /^$/],
      [elsewhere, /cannot trust public keys sent over plain HTTP/],
    ] as const) {
      const open = await use(url);
      assert.equal(open.status, 0);
      assert.match(open.stderr, warning);
      assert.ok(open.stdout.includes(`extra-substituters = ${url}\n`));
      assert.match(open.stdout, /No path was checked: pass one/);
    }

    for (const args of [
      [`${server.url}#${cache.publicKey}`, '--path', cache.storePath],
      [server.url, '--public-key', cache.publicKey, '--path', cache.storePath],
    ]) {
      const pinned = await use(...args);
      assert.equal(pinned.status, 0);
      assert.equal(pinned.stderr, '');
      assert.match(pinned.stdout, /The signature of .* is valid/);
    }
    const wrong = await use(server.url, '--public-key', otherKey);
    assert.equal(wrong.status, 1);
    assert.equal(wrong.stdout, '');
    assert.match(wrong.stderr, /wrong public key for the cache/);

    const rotated = { ...cache.config, publicKeys: [cache.publicKey, otherKey] };
    await cache.bucket.put('niche.json', Buffer.from(formatConfig(rotated)));
    const one = await use(`${server.url}#${cache.publicKey}`, '--json');
    const { publicKeys, warnings } = JSON.parse(one.stdout) as Record<string, string[]>;
    assert.deepEqual(publicKeys, [cache.publicKey]);
    assert.equal(warnings!.length, 1);
    assert.ok(warnings![0]!.includes(otherKey));
  });

  test('fails when Nix would refuse the cache', async (t) => {
    const cache = await makeSmallCache(t, { signatures: [] });
    const { use } = await makeHome(t, { PATH: '/nowhere' });
    const { status, stdout } = await use(cache.url);
    assert.equal(status, 1);
    assert.match(stdout, /has no signature/);
  });

  test('refuses invalid input', async (t) => {
    const cache = await makeSmallCache(t);
    const { use } = await makeHome(t, { PATH: '/nowhere' });
    const hostile = { ...cache.config, publicKeys: [`evil#${otherKey}`] };
    const evil = await makeSmallCache(t);
    await evil.bucket.put('niche.json', Buffer.from(JSON.stringify(hostile)));
    for (const [args, message] of [
      [[], /no cache given/],
      [[cache.directory, '--public-key', 'no key'], /expected <name>:<base64/],
      [[`${cache.url}#no-key`], /expected <name>:<base64/],
      [[cache.url, '--path', '/etc/passwd'], /\/etc\/passwd/],
      [[cache.url, '--for', 'windows'], /Allowed choices are nixos, flake/],
      [[cache.url, '--write', '--remove'], /cannot be used with/],
      [[evil.url], /nix\.conf cannot contain/],
    ] as const) {
      const { status, stdout, stderr } = await use(...args);
      assert.equal(status, 1, args.join(' '));
      assert.equal(stdout, '');
      assert.match(stderr, message);
    }
  });
});
