import assert from 'node:assert/strict';
import { chmod, mkdir, readFile, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import {
  linkTarget,
  readConfFile,
  replaceConfFile,
  userConfPath,
} from '../../../cli/use/conf-file.ts';
import { isNicheError } from '../../../core/errors.ts';
import { temporaryFolder } from '../../support/cache/small-cache.ts';

describe('the user’s nix.conf', () => {
  test('is the file that Nix reads first', () => {
    const home = { HOME: '/home/a' };
    assert.equal(userConfPath(home), '/home/a/.config/nix/nix.conf');
    assert.equal(userConfPath({ ...home, XDG_CONFIG_HOME: '/x' }), '/x/nix/nix.conf');
    assert.equal(userConfPath({ ...home, XDG_CONFIG_HOME: '' }), '/home/a/.config/nix/nix.conf');
    assert.equal(userConfPath({ ...home, NIX_USER_CONF_FILES: '/a/b:/c' }), '/a/b');
    assert.equal(userConfPath({ ...home, NIX_USER_CONF_FILES: '' }), null);
  });

  test('keeps its mode and every byte, and leaves no temporary file', async (t) => {
    const folder = await temporaryFolder(t);
    const file = join(folder, 'nix.conf');
    const bytes = Buffer.from([...Array(256).keys()]);
    await writeFile(file, bytes);
    await chmod(file, 0o640);
    const conf = await readConfFile(file);
    await replaceConfFile(conf, `${conf.text ?? ''}x`);
    assert.deepEqual(await readFile(file), Buffer.concat([bytes, Buffer.from('x')]));
    assert.equal((await stat(file)).mode & 0o7777, 0o640);
    assert.deepEqual(await readdir(folder), ['nix.conf']);
  });

  test('is created with its folders, and deleted', async (t) => {
    const file = join(await temporaryFolder(t), 'a/nix/nix.conf');
    const conf = await readConfFile(file);
    assert.equal(conf.text, null);
    await replaceConfFile(conf, 'x = y\n');
    assert.equal(await readFile(file, 'utf8'), 'x = y\n');
    await replaceConfFile(conf, null);
    assert.equal((await readConfFile(file)).text, null);
  });

  test('fails when it cannot be read or written, and leaves no temporary file', async (t) => {
    const folder = await temporaryFolder(t);
    const file = join(folder, 'nix.conf');
    await mkdir(file);
    const denied = (error: unknown): boolean => isNicheError(error, 'storage-denied');
    await assert.rejects(readConfFile(file), denied);
    const conf = { path: file, text: '', mode: 0o644, uid: 0, gid: 0 };
    await assert.rejects(replaceConfFile(conf, 'x'), denied);
    assert.deepEqual(await readdir(folder), ['nix.conf']);
  });

  test('fails when its folder cannot be created', async () => {
    for (const folder of ['/dev/null/home', '/proc/home']) {
      const conf = await readConfFile(join(folder, '.config/nix/nix.conf'));
      assert.equal(conf.text, null);
      await assert.rejects(replaceConfFile(conf, 'x'), { code: 'storage-denied' });
    }
  });

  test('is recognized as a symbolic link', async (t) => {
    const folder = await temporaryFolder(t);
    await symlink('/elsewhere', join(folder, 'link'));
    await writeFile(join(folder, 'file'), '');
    assert.equal(await linkTarget(join(folder, 'link')), '/elsewhere');
    assert.equal(await linkTarget(join(folder, 'file')), null);
    assert.equal(await linkTarget(join(folder, 'absent')), null);
  });
});
