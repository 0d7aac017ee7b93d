import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { makeSessionFolder, sessionBases } from '../../../cli/watch/session-folder.ts';
import { temporaryFolder } from '../nix/temporary-folder.ts';

test('is private, and can be removed', (t) => {
  const base = temporaryFolder(t);
  const { folder, remove } = makeSessionFolder(base);
  assert.equal(path.dirname(folder), base);
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  assert.deepEqual(readdirSync(folder), ['owners']);
  remove();
  assert.deepEqual(readdirSync(base), []);
});

test('refuses a folder that is missing, and one whose path nix.conf cannot hold', (t) => {
  const base = temporaryFolder(t);
  const spaced = path.join(base, 'a b');
  mkdirSync(spaced);
  for (const refused of [path.join(base, 'missing'), spaced, `${base}/#`]) {
    assert.throws(() => makeSessionFolder(refused), { code: 'usage' });
  }
  assert.deepEqual(readdirSync(spaced), []);
});

test('lists each base once, TMPDIR first, as absolute paths', () => {
  const bases = (env: Record<string, string>) => sessionBases(env, '/here');
  assert.deepEqual(bases({ TMPDIR: '/tmp', HOME: '/h' }), ['/tmp', '/var/tmp', '/h/.cache']);
  const rest = ['/tmp', '/var/tmp', '/c'];
  assert.deepEqual(bases({ TMPDIR: '/x', XDG_CACHE_HOME: '/c' }), ['/x', ...rest]);
  assert.deepEqual(bases({ TMPDIR: 'x', XDG_CACHE_HOME: '/c' }), ['/here/x', ...rest]);
});

/** Creates a session folder in a separate process, which then waits. */
const holder = `
import { makeSessionFolder } from '${new URL('../../../cli/watch/session-folder.ts', import.meta.url).href}';
const { folder, keepFor } = makeSessionFolder(process.argv[1]);
if (process.argv[2]) keepFor(Number(process.argv[2]));
console.log(folder);
setInterval(() => undefined, 1000);
`;

test('the next start deletes the folders of killed processes, but not of running ones', async (t) => {
  const base = temporaryFolder(t);
  const start = async (...args: string[]) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', holder, base, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.after(() => child.kill('SIGKILL'));
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    return { child, folder: line.toString().trim() };
  };
  const living = await start();
  const killed = await start();
  const killedUnderNix = await start(String(living.child.pid));
  for (const { child } of [killed, killedUnderNix]) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  makeSessionFolder(base).remove();
  assert.ok(existsSync(living.folder));
  assert.ok(existsSync(killedUnderNix.folder), 'the nix that it started still runs');
  assert.ok(!existsSync(killed.folder));
  living.child.kill('SIGKILL');
  await once(living.child, 'exit');
  makeSessionFolder(base).remove();
  assert.deepEqual(readdirSync(base), []);
});
