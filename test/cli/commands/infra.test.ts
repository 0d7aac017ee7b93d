import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { appendFile, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { runCommand } from '../../support/lab/command.ts';

const checkout = join(import.meta.dirname, '../../..');
let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'niche-infra-'));
  await promisify(execFile)(process.execPath, ['scripts/functions.ts'], { cwd: checkout });
});
after(() => rm(folder, { recursive: true, force: true }));

test('niche infra aws writes the deployment files, and later keeps the settings', async () => {
  const team = join(folder, 'team/cache');
  const first = await runCommand(['infra', 'aws', team]);
  assert.equal(first.status, 0, first.stderr);
  const files = await readdir(team, { recursive: true });
  for (const file of ['serverless.yml', 'infra/aws/key.yml', 'infra/aws/functions/publish.mjs']) {
    assert.ok(files.includes(file), file);
  }
  // Every part that serverless.yml includes is there.
  const text = await readFile(join(team, 'serverless.yml'), 'utf8');
  const parts = [...text.matchAll(/\$\{file\(([^)]+)\)\}/g)].map(([, part = '']) => part);
  assert.ok(parts.length > 5);
  for (const part of parts) assert.ok(files.includes(part), part);

  await appendFile(join(team, 'serverless.yml'), '# ours\n');
  await writeFile(join(team, 'infra/aws/old.yml'), 'of an earlier release');
  const second = await runCommand(['infra', 'aws', team, '--json']);
  assert.equal((JSON.parse(second.stdout) as { keptSettings: boolean }).keptSettings, true);
  assert.match(await readFile(join(team, 'serverless.yml'), 'utf8'), /# ours$/m);
  assert.equal(await readFile(join(team, 'serverless.yml.new'), 'utf8'), text);
  assert.ok(!(await readdir(join(team, 'infra/aws'))).includes('old.yml'));
});

for (const [cloud, settings, file] of [
  ['azure', 'infra/azure.bicepparam', 'infra/azure/function/host.json'],
  ['google', 'infra/google.tf', 'infra/google/function/package.json'],
] as const) {
  test(`niche infra ${cloud} writes modules, functions and settings`, async () => {
    const team = join(folder, cloud);
    const first = await runCommand(['infra', cloud, team]);
    assert.equal(first.status, 0, first.stderr);
    const files = await readdir(team, { recursive: true });
    for (const each of [settings, file, `infra/${cloud}/function/main.cjs`]) {
      assert.ok(files.includes(each), each);
    }
    await appendFile(join(team, settings), '\n');
    const second = await runCommand(['infra', cloud, team, '--json']);
    assert.equal((JSON.parse(second.stdout) as { keptSettings: boolean }).keptSettings, true);
  });
}

test('niche infra refuses an unknown cloud, and a file as its folder', async () => {
  assert.notEqual((await runCommand(['infra', 'vax', folder])).status, 0);
  await writeFile(join(folder, 'file'), '');
  const ran = await runCommand(['infra', 'aws', join(folder, 'file')]);
  assert.equal(ran.status, 1);
  assert.match(ran.stderr, /cannot write to /);
});
