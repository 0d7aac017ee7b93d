import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';

import { cacheIdentity, createKnownPaths } from '../../../../core/cache/local/known-paths.ts';
import { openLocalDatabase } from '../../../../core/cache/local/database.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';
import { temporaryFolder } from '../../../support/cache/small-cache.ts';

const hourMs = 60 * 60 * 1000;
const one = (await testPath('one')).info;
const two = (await testPath('two')).info;

describe('known paths of a cache', () => {
  test('survive the process, and apply only to equal contents and references', async (t) => {
    const file = join(await temporaryFolder(t), 'deep/er/cache.sqlite');
    const first = await openLocalDatabase(file);
    createKnownPaths(first).rememberPaths([one], 'present');
    createKnownPaths(first).rememberPaths([two], 'upstream');
    first.close();
    const known = createKnownPaths(await openLocalDatabase(file));
    assert.equal(known.findPath(one), 'present');
    assert.equal(known.findPath(two), 'upstream');
    for (const changed of [
      { ...one, narHash: two.narHash },
      { ...one, narSize: one.narSize + 8 },
      { ...one, references: [two.path] },
      { ...one, path: two.path },
    ]) {
      assert.equal(known.findPath(changed), null);
    }
    assert.equal((await stat(join(file, '..'))).mode & 0o777, 0o700);
  });

  test('expire after a day, and when a path turns out to be missing', async () => {
    const database = await openLocalDatabase(null);
    let time = 0;
    const known = createKnownPaths(database, () => time);
    known.rememberPaths([one, two], 'present');
    time = 23 * hourMs;
    assert.equal(known.findPath(one), 'present');
    known.forgetPaths([two.path, '/nix/store/never-known']);
    assert.equal(known.findPath(two), null);
    known.rememberPaths([two], 'present');
    known.forgetHash(storeHash(two.path));
    assert.equal(known.findPath(two), null);
    assert.equal(known.findPath(one), 'present');
    time = 25 * hourMs;
    assert.equal(known.findPath(one), null);
  });

  for (const [damage, inflict] of [
    ['is no database', (file: string) => writeFile(file, 'hello '.repeat(1000))],
    ['is cut off', (file: string) => truncate(file, 5000)],
    [
      'has a page of noise',
      async (file: string) => {
        const bytes = await readFile(file);
        await writeFile(file, bytes.fill(0xa5, 4096));
      },
    ],
    [
      'is of a later release',
      (file: string) => {
        const database = new DatabaseSync(file);
        database.exec('PRAGMA user_version = 99');
        database.close();
        return Promise.resolve();
      },
    ],
    [
      'has other tables',
      (file: string) => {
        const database = new DatabaseSync(file);
        database.exec('DROP TABLE known');
        database.close();
        return Promise.resolve();
      },
    ],
  ] as const) {
    test(`a file that ${damage} is deleted`, async (t) => {
      const file = join(await temporaryFolder(t), 'cache.sqlite');
      const first = await openLocalDatabase(file);
      createKnownPaths(first).rememberPaths([one], 'present');
      first.close();
      await inflict(file);
      const known = createKnownPaths(await openLocalDatabase(file));
      assert.equal(known.findPath(one), null);
      known.rememberPaths([two], 'present');
      assert.equal(known.findPath(two), 'present');
      const again = createKnownPaths(await openLocalDatabase(file));
      assert.equal(again.findPath(two), 'present');
    });
  }

  test('are kept in memory where no file can be created', async (t) => {
    const folder = await temporaryFolder(t);
    const file = join(folder, 'file');
    await writeFile(file, '');
    await chmod(file, 0o400);
    for (const parent of [file, '/dev/null/home/.cache', '/proc/home/.cache', '/sys/home']) {
      const known = createKnownPaths(await openLocalDatabase(join(parent, 'cache.sqlite')));
      known.rememberPaths([one], 'present');
      assert.equal(known.findPath(one), 'present', parent);
    }
  });

  test('are written by many processes at once, even into a new file', async (t) => {
    const file = join(await temporaryFolder(t), 'cache.sqlite');
    const script = `
      const base = ${JSON.stringify(new URL('../../../../', import.meta.url).href)};
      const { openLocalDatabase } = await import(base + 'core/cache/local/database.ts');
      const { createKnownPaths } = await import(base + 'core/cache/local/known-paths.ts');
      const known = createKnownPaths(await openLocalDatabase(process.argv[1]));
      for (let at = 0; at < 50; at += 1) {
        const path = '/nix/store/' + process.argv[2] + '-' + at;
        known.rememberPaths([{ path, narHash: 'h', narSize: 1, references: [] }], 'present');
      }`;
    const writers = Array.from({ length: 4 }, (_, number) =>
      spawn(process.execPath, ['--input-type=module', '-e', script, file, String(number)], {
        stdio: ['ignore', 'inherit', 'inherit'],
      }),
    );
    const ended = await Promise.all(writers.map((writer) => once(writer, 'exit')));
    assert.deepEqual(
      ended.map(([status]) => status as number),
      [0, 0, 0, 0],
    );
    const database = await openLocalDatabase(file);
    assert.equal(database.all('SELECT count(*) AS number FROM known')[0]?.['number'], 200);
  });

  test('belong to one cache, and not to a new one at the same URL', () => {
    const { config } = createTestCache();
    const identity = cacheIdentity('s3://acme', config);
    assert.equal(identity, cacheIdentity('s3://acme', { ...config }));
    assert.match(identity, /^[0-9a-f]{32}$/);
    for (const other of [
      cacheIdentity('s3://acme?endpoint=https://elsewhere.example', config),
      cacheIdentity('s3://acme', { ...config, publicKeys: ['other-1:x'] }),
      cacheIdentity('s3://acme', { ...config, upstreams: [{ url: 'https://u', publicKey: 'k' }] }),
    ]) {
      assert.notEqual(other, identity);
    }
  });
});
