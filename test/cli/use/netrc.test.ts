import assert from 'node:assert/strict';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { readLogin, removeNetrc, writeNetrc } from '../../../cli/use/netrc.ts';
import { isErrno } from '../../../core/util/errno.ts';
import { runCommand } from '../../support/lab/command.ts';
import { serveAnswers } from '../../support/cache/http.ts';
import { makeSmallCache, temporaryFolder } from '../../support/cache/small-cache.ts';

const url = 'https://acme.example:8443/cache';
const login = { login: 'ci', password: 's3cret:/+=' };
const line = 'machine acme.example login ci password s3cret:/+=\n';
const modeOf = async (file: string): Promise<number> => (await stat(file)).mode & 0o777;

describe('a netrc', () => {
  test('is created for its owner only, and deleted with its only line', async (t) => {
    const file = join(await temporaryFolder(t), 'deep/netrc');
    assert.deepEqual(await writeNetrc(file, url, login), { file, change: 'added' });
    assert.equal(await readFile(file, 'utf8'), line);
    assert.equal(await modeOf(file), 0o600);
    assert.equal((await writeNetrc(file, url, login)).change, 'unchanged');
    const other = { ...login, password: 'other' };
    assert.equal((await writeNetrc(file, url, other)).change, 'updated');
    assert.equal((await removeNetrc(file, url))?.change, 'removed');
    await assert.rejects(stat(file), (error) => isErrno(error, 'ENOENT'));
    assert.equal(await removeNetrc(file, url), null);
  });

  test('keeps other entries, and gets the line before a default', async (t) => {
    const file = join(await temporaryFolder(t), 'netrc');
    const former =
      'machine other.example\n  login me\n  password p\ndefault login any password x\n';
    await writeFile(file, former, { mode: 0o644 });
    await chmod(file, 0o644);
    await writeNetrc(file, url, login);
    assert.equal(await readFile(file, 'utf8'), former.replace('default', `${line}default`));
    assert.equal(await modeOf(file), 0o640, 'never everyone’s');
    await removeNetrc(file, url);
    assert.equal(await readFile(file, 'utf8'), former);
  });

  test('is not changed if it has an entry of several lines', async (t) => {
    const file = join(await temporaryFolder(t), 'netrc');
    await writeFile(file, 'machine acme.example\nlogin me\npassword p\n');
    await assert.rejects(writeNetrc(file, url, login), { code: 'malformed-config' });
    await assert.rejects(removeNetrc(file, url), { code: 'malformed-config' });
    await assert.rejects(writeNetrc(file, 's3://acme', login), { code: 'usage' });
  });

  test('gets a valid login from the environment or a file', async (t) => {
    const file = join(await temporaryFolder(t), 'password');
    await writeFile(file, 'from-file\n');
    const env = { NICHE_NETRC_LOGIN: 'env', NICHE_NETRC_PASSWORD: 'word' };
    assert.deepEqual(await readLogin({}, env), { login: 'env', password: 'word' });
    assert.deepEqual(await readLogin({ login: 'me', passwordFile: file }, env), {
      login: 'me',
      password: 'from-file',
    });
    await assert.rejects(readLogin({ login: 'me' }, {}), { code: 'usage' });
    for (const password of ['two words', 'quo"ted', 'back\\slash', 'ünicode', '#comment']) {
      const refused = readLogin({}, { ...env, NICHE_NETRC_PASSWORD: password });
      await assert.rejects(refused, (error: Error & { code: string }) => {
        assert.equal(error.code, 'usage');
        assert.ok(!error.message.includes(password));
        return true;
      });
    }
  });
});

test('niche use --netrc reads a private cache, and configures Nix to read it', async (t) => {
  const cache = await makeSmallCache(t);
  const wanted = `Basic ${Buffer.from('ci:word').toString('base64')}`;
  const server = await serveAnswers(t, (path, response, request) => {
    if (request.headers.authorization !== wanted) {
      response.writeHead(401).end();
      return;
    }
    void cache.bucket.get(path).then(async (found) => {
      if (!found) response.writeHead(404).end();
      else response.writeHead(200).end((await found.body[Symbol.asyncIterator]().next()).value);
    });
  });
  const home = await temporaryFolder(t);
  const netrc = join(home, 'netrc');
  const env = {
    HOME: home,
    PATH: '/nowhere',
    XDG_CONFIG_HOME: undefined,
    NIX_USER_CONF_FILES: undefined,
    NICHE_NETRC_LOGIN: 'ci',
    NICHE_NETRC_PASSWORD: 'word',
  };
  const use = (...args: string[]) => runCommand(['use', server.url, ...args], { env });

  const without = await use();
  assert.equal(without.status, 1);
  assert.match(without.stderr, /401/);
  const used = await use('--netrc', netrc, '--write');
  assert.equal(used.status, 0, used.stderr);
  assert.match(used.stdout, /narinfo-cache-negative-ttl 0/);
  assert.doesNotMatch(used.stdout + used.stderr, /word/);
  assert.equal(await readFile(netrc, 'utf8'), 'machine 127.0.0.1 login ci password word\n');
  const conf = await readFile(join(home, '.config/nix/nix.conf'), 'utf8');
  assert.match(conf, new RegExp(`^netrc-file = ${netrc}$`, 'm'));
  const wrong = await runCommand(['use', server.url, '--netrc', netrc], {
    env: { ...env, NICHE_NETRC_PASSWORD: 'wrong' },
  });
  assert.equal(wrong.status, 1);

  const removed = await use('--netrc', netrc, '--remove', '--json');
  assert.equal(removed.status, 0, removed.stderr);
  await assert.rejects(stat(netrc), (error) => isErrno(error, 'ENOENT'));
  const remote = await runCommand(['use', 'http://acme.example', '--netrc', netrc], { env });
  assert.match(remote.stderr, /cannot send a password over plain HTTP/);
});
