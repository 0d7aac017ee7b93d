import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { chmod, chown, lchown, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { runFileBucketChild, temporaryFileBucket } from '../../../support/buckets/file-bucket.ts';

/** Owns the directory; file-bucket-child.ts runs as this user. */
const owner = 65_534;
const stranger = 12_345;

const isRoot = process.getuid?.() === 0;

interface Outcome {
  readonly put: string;
  readonly delete: string;
  readonly list: string;
  readonly listed: readonly string[];
}

async function directoryOf(context: TestContext, mode: number) {
  const { directory, close } = await temporaryFileBucket();
  context.after(close);
  await mkdir(join(directory, 'staging/one'), { recursive: true });
  await mkdir(join(directory, '.niche-tmp'));
  for (const name of ['object', 'staging/one/0.json']) await writeFile(join(directory, name), 'x');
  for (const name of ['', 'staging', 'staging/one', '.niche-tmp', 'object']) {
    await chown(join(directory, name), owner, owner);
  }
  for (const name of ['', 'staging', '.niche-tmp']) await chmod(join(directory, name), mode);
  const run = async (): Promise<Outcome> =>
    JSON.parse(await runFileBucketChild('owner', directory)) as Outcome;
  return { directory, run };
}

/** Creates a folder that only another user may read. */
async function closedFolder(directory: string): Promise<void> {
  await mkdir(join(directory, 'staging/closed'), { mode: 0o700 });
  await mkdir(join(directory, 'staging/closed/deep'));
  for (const name of ['staging/closed/deep', 'staging/closed']) {
    await chown(join(directory, name), stranger, stranger);
  }
}

const all: Outcome = { put: 'done', delete: 'done', list: 'done', listed: ['staging/one/0.json'] };

describe('a directory with the sticky bit', { skip: !isRoot && 'needs root' }, () => {
  it('lists what others store, next to a folder that its owner closed', async (context) => {
    const { directory, run } = await directoryOf(context, 0o1777);
    await closedFolder(directory);
    assert.deepEqual(await run(), all);
  });

  it('ignores the locks of users who are not trusted', async (context) => {
    const { directory, run } = await directoryOf(context, 0o1777);
    const lock = `lock-${hash('sha256', 'object', 'hex').slice(0, 32)}`;
    await symlink('1-0-0-0', join(directory, '.niche-tmp', lock));
    await lchown(join(directory, '.niche-tmp', lock), stranger, stranger);
    assert.deepEqual(await run(), all);
    assert.deepEqual(await readdir(join(directory, '.niche-tmp')), []);
  });

  it('refuses a folder for temporary files that another user controls', async (context) => {
    for (const [uid, mode] of [
      [stranger, 0o1777],
      [owner, 0o777],
    ] as const) {
      const { directory, run } = await directoryOf(context, 0o1777);
      await chown(join(directory, '.niche-tmp'), uid, uid);
      await chmod(join(directory, '.niche-tmp'), mode);
      assert.deepEqual(await run(), { ...all, put: 'storage-denied', delete: 'storage-denied' });
    }
  });
});

describe('a directory without the sticky bit', { skip: !isRoot && 'needs root' }, () => {
  it('reports a closed folder, since its users trust each other', async (context) => {
    const { directory, run } = await directoryOf(context, 0o777);
    await closedFolder(directory);
    assert.deepEqual(await run(), { ...all, list: 'storage-denied', listed: [] });
  });
});
