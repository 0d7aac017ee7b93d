import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { temporaryFolder } from '../support/cache/small-cache.ts';

const checkout = join(import.meta.dirname, '../..');
const action = readFileSync(join(checkout, 'action.yml'), 'utf8');

/** The scripts of its steps: the check of the inputs, the installation, and the environment. */
const [checkInputs = '', , setEnvironment = ''] = [
  ...action.matchAll(/^ {6}run: \|\n((?: {8}.*\n)+)/gm),
].map(([, script = '']) => script.replaceAll(/^ {8}/gm, ''));

const good = {
  CACHE: 'https://cache.example',
  PUBLIC_KEY: `acme-1:${'A'.repeat(43)}=`,
  PACKAGE: 'https://files.example.org/niche-0.1.0.tgz',
  SHA256: 'a'.repeat(64),
};

function run(script: string, env: Record<string, string>): boolean {
  try {
    const options = { env: { PATH: process.env['PATH'], ...env }, stdio: 'pipe' } as const;
    execFileSync('bash', ['--noprofile', '--norc', '-eo', 'pipefail', '-c', script], options);
    return true;
  } catch {
    return false;
  }
}

describe('action.yml', () => {
  test('accepts only inputs that write no other variable', () => {
    assert.equal(run(checkInputs, good), true);
    const twoKeys = `${good.PUBLIC_KEY} ${good.PUBLIC_KEY}`;
    assert.equal(run(checkInputs, { ...good, PUBLIC_KEY: twoKeys }), true);
    assert.equal(run(checkInputs, { ...good, CACHE: 's3://acme?region=eu-central-1' }), true);
    for (const [name, value] of Object.entries(good)) {
      for (const bad of ['', `${value}\nEVIL=1`, `${value}\r`, `\n${value}`, `${value} x`]) {
        assert.equal(run(checkInputs, { ...good, [name]: bad }), false, JSON.stringify(bad));
      }
    }
    assert.equal(run(checkInputs, { ...good, PACKAGE: 'http://files.example.org/x.tgz' }), false);
  });

  test('keeps an earlier NIX_CONFIG within its variable', async (t) => {
    const file = join(await temporaryFolder(t), 'env');
    await writeFile(file, '');
    const earlier = 'a = b\nend-of-nix-config\nEVIL=1';
    assert.equal(run(setEnvironment, { ...good, NIX_CONFIG: earlier, GITHUB_ENV: file }), true);
    const [first, start, ...rest] = (await readFile(file, 'utf8')).trimEnd().split('\n');
    assert.equal(first, `NICHE_CACHE_URL=${good.CACHE}`);
    const delimiter = start?.replace('NIX_CONFIG<<', '');
    assert.match(delimiter ?? '', /^end-[0-9a-f]{32}$/);
    assert.equal(rest.indexOf(delimiter ?? ''), rest.length - 1);
  });
});

test('every action is pinned to a commit, with its version', () => {
  const files = [
    'action.yml',
    'docs/ci/github.md',
    'docs/deploy/google.md',
    'docs/deploy/azure.md',
  ];
  const uses = files.flatMap((name) =>
    [...readFileSync(join(checkout, name), 'utf8').matchAll(/^.*\buses: (.*)$/gm)].map(
      ([, used = '']) => used,
    ),
  );
  assert.ok(uses.length > 8);
  for (const used of uses) assert.match(used, /^[\w<>/-]+@(?:[0-9a-f]{40}|<commit>) # v\d/);
});
