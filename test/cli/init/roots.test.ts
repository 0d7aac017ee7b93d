import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { openBucket } from '../../../core/storage/open/open-bucket.ts';
import { runCommand } from '../../support/lab/command.ts';

const folder = await mkdtemp(join(tmpdir(), 'niche-roots-'));
after(() => rm(folder, { recursive: true }));

test('init removes trailing slashes from the public URL', async () => {
  const { status, stderr } = await runCommand(
    ['init', join(folder, 'cache'), '--name', 'acme', '--substituter', 'https://cache.test/acme//'],
    { env: { HOME: folder, PATH: '' } },
  );
  assert.deepEqual([status, stderr], [0, '']);
  const config = await readFile(join(folder, 'cache/niche.json'), 'utf8');
  assert.equal(
    (JSON.parse(config) as { substituter: string }).substituter,
    'https://cache.test/acme',
  );
});

/** Returns the permissions of files below the test's folder, in octal. */
async function modesOf(...names: readonly string[]): Promise<string[]> {
  const modes = names.map(async (name) => (await stat(join(folder, name))).mode & 0o7777);
  return (await Promise.all(modes)).map((mode) => mode.toString(8));
}

/** Creates a cache with three directories below `name`. */
function initApart(name: string) {
  const url = (root: string): string => pathToFileURL(join(folder, name, root)).href;
  return runCommand(
    [
      ...['init', join(folder, name, 'cache'), '--name', 'acme', '--key-name', `${name}-1`],
      ...['--staging', url('staging'), '--private', url('private')],
    ],
    { env: { HOME: folder, PATH: '' } },
  );
}

test('init creates a staging and a private directory of their own', async () => {
  const { status, stdout, stderr } = await initApart('apart');
  assert.deepEqual([status, stderr], [0, '']);
  const staging = 'apart/staging';
  assert.deepEqual(
    await modesOf(
      ...[staging, `${staging}/.niche-tmp`, `${staging}/staging`, `${staging}/receipts`],
      'apart/private',
    ),
    ['3700', '3700', '3700', '2700', '700'],
  );
  const bucket = openBucket(pathToFileURL(join(folder, staging)).href);
  assert.equal(await bucket.put('staging/object', Buffer.from('x'), { ifAbsent: true }), 'created');
  assert.match(stdout, /^ {2}chgrp -R GROUP \S+\/apart\/staging$/m);
  assert.match(stdout, /^ {2}chmod 3770 \S+\/staging \S+\/\.niche-tmp \S+\/staging\/staging$/m);
  assert.match(stdout, /^ {2}chmod 2750 \S+\/receipts$/m);
});

test('init keeps the mode of an existing staging directory', async () => {
  for (const [name, mode, inside] of [
    ['shared', 0o1777, ['1777', '1777', '755']],
    ['alone', 0o755, null],
  ] as const) {
    const staging = join(folder, name, 'staging');
    await mkdir(staging, { recursive: true });
    await chmod(staging, mode);
    const { status, stdout, stderr } = await initApart(name);
    assert.deepEqual([status, stderr], [0, '']);
    assert.equal(stdout.includes('chgrp'), inside === null);
    assert.deepEqual(await modesOf(`${name}/staging`), [mode.toString(8)]);
    const names = ['.niche-tmp', 'staging', 'receipts'].map((each) => `${name}/staging/${each}`);
    if (inside) assert.deepEqual(await modesOf(...names), inside);
    else await assert.rejects(modesOf(...names), { code: 'ENOENT' });
  }
});
