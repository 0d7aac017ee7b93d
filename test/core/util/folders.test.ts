import assert from 'node:assert/strict';
import { mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { makeFolders } from '../../../core/util/folders.ts';
import { temporaryFolder } from '../../support/cache/small-cache.ts';

describe('folders', () => {
  test('are created with those above them, in the given mode', async (t) => {
    const base = await temporaryFolder(t);
    const deep = join(base, 'a/b/c');
    makeFolders(deep, 0o700);
    makeFolders(deep, 0o755);
    assert.deepEqual(await readdir(join(base, 'a/b')), ['c']);
    for (const folder of [deep, join(base, 'a')]) {
      assert.equal((await stat(folder)).mode & 0o777, 0o700);
    }
  });

  test('may exist already, also behind a symbolic link', async (t) => {
    const base = await temporaryFolder(t);
    await mkdir(join(base, 'folder'));
    await symlink('folder', join(base, 'link'));
    makeFolders(join(base, 'link/below'));
    assert.deepEqual(await readdir(join(base, 'folder')), ['below']);
  });

  test('that cannot be created end with the system’s error', async (t) => {
    const base = await temporaryFolder(t);
    await writeFile(join(base, 'file'), '');
    await symlink('loop', join(base, 'loop'));
    await symlink('nothing', join(base, 'broken'));
    const refusals: [folder: string, code: RegExp][] = [
      [join(base, 'file'), /^EEXIST$/],
      [join(base, 'file/a/b'), /^(?:ENOTDIR|EEXIST)$/],
      [join(base, 'loop/a'), /^ELOOP$/],
      [join(base, 'broken/a'), /^EEXIST$/],
      [join(base, 'x'.repeat(300), 'a'), /^ENAMETOOLONG$/],
    ];
    if (process.platform === 'linux') {
      refusals.push(
        ['/dev/null/a/b', /^(?:ENOTDIR|EEXIST)$/],
        ['/proc/niche/a/b', /^ENOENT$/],
        ['/sys/niche/a/b', /^(?:EPERM|EACCES|EROFS)$/],
      );
    }
    for (const [folder, code] of refusals) {
      assert.throws(
        () => {
          makeFolders(folder);
        },
        { code },
      );
    }
  });
});
