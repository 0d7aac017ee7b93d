import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
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
