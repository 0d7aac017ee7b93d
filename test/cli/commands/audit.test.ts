import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { openLocalRecord } from '../../../cli/upload/local-record.ts';
import { openCache } from '../../../core/cache/open.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import { runCommand } from '../../support/lab/command.ts';
import { temporaryFileBucket } from '../../support/buckets/file-bucket.ts';
import { temporaryFolder } from '../../support/cache/small-cache.ts';
import { inventedPath } from '../../support/cache/paths.ts';
import { makeBucketCache, localTestPath } from '../../support/cache/bucket-cache.ts';

const { bucket, directory, close } = await temporaryFileBucket();
after(close);
const cache = await makeBucketCache(bucket);
const lib = await localTestPath('lib');
const app = await localTestPath('app', [lib]);
const upload = await cache.publish(lib, app);

interface Recorded {
  readonly path: string;
  readonly upload: string;
  readonly signers: readonly object[];
}

const records = (stdout: string): Recorded[] =>
  stdout
    .trimEnd()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Recorded);

test('niche audit lists the signed paths with their uploads', async () => {
  const ran = await runCommand(['audit', '-u', directory, '--json']);
  assert.deepEqual([ran.status, ran.stderr], [0, 'niche: 2 records of test\n']);
  const found = records(ran.stdout);
  assert.deepEqual(found.map(({ path }) => path).sort(), [lib.path, app.path].sort());
  for (const record of found) {
    assert.equal(record.upload, upload);
    assert.equal(record.signers.length, 1);
  }
  const forPeople = await runCommand(['audit', '-u', directory]);
  assert.match(forPeople.stdout, new RegExp(`by unknown, upload ${upload}; signed with test-1`));
});

test('niche audit filters by path, uploader and time', async () => {
  const of = async (...args: string[]): Promise<string[]> => {
    const ran = await runCommand(['audit', '-u', directory, '--json', ...args]);
    assert.equal(ran.status, 0, ran.stderr);
    return records(ran.stdout).map(({ path }) => path);
  };
  assert.deepEqual(await of('--path', lib.path), [lib.path]);
  assert.deepEqual(await of('--path', storeHash(app.path)), [app.path]);
  assert.equal((await of('--uploader', upload.slice(0, 20))).length, 2);
  assert.deepEqual(await of('--uploader', 'nobody'), []);
  assert.equal((await of('--since', '2h')).length, 2);
  const tomorrow = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
  assert.deepEqual(await of('--since', tomorrow), []);
  for (const wrong of ['yesterday', '2026-13-45', '7w', '']) {
    const ran = await runCommand(['audit', '-u', directory, '--since', wrong]);
    assert.notEqual(ran.status, 0);
    assert.match(ran.stderr, /expected a date/);
  }
});

interface ListedBlock {
  readonly name: string;
  readonly reason: string;
}

test('niche block withdraws a path, and niche verify finds the paths that refer to it', async (t) => {
  const env = { XDG_CACHE_HOME: await temporaryFolder(t) };
  const block = (...args: readonly string[]): ReturnType<typeof runCommand> =>
    runCommand(['block', '-u', directory, ...args], { env });
  const isReadable = async (path: string): Promise<boolean> =>
    (await bucket.head(`${storeHash(path)}.narinfo`)) !== null;
  const wrong = await block(lib.path, 'not-a-path');
  assert.notEqual(wrong.status, 0);
  assert.ok(await isReadable(lib.path), 'a slip of the pen withdraws nothing');

  const blocked = await block(lib.path, '--reason', 'stolen laptop');
  assert.deepEqual(
    [blocked.status, blocked.stdout],
    [0, `${lib.path}: withdrawn\n`],
    blocked.stderr,
  );
  assert.ok(!(await isReadable(lib.path)));
  const listed = await block('--list');
  assert.match(listed.stdout, /^\d{4}-\S+Z withdrawn \/nix\/store\/\S+-lib: stolen laptop\n$/);
  const { reason, name } = JSON.parse((await block('--list', '--json')).stdout) as ListedBlock;
  assert.deepEqual([name, reason], [lib.path, 'stolen laptop']);
  assert.match((await block('--list', lib.path)).stderr, /cannot list and change at once/);
  assert.match((await block()).stderr, /^niche: no paths given\n/);
  const verified = await runCommand(['verify', '-u', directory]);
  assert.equal(verified.status, 76);
  assert.match(verified.stdout, /it is blocked in this cache/);

  // Staging it again is refused.
  await cache.publish(lib);
  assert.ok(!(await isReadable(lib.path)));
  const again = await block(lib.path, '--json');
  assert.deepEqual(JSON.parse(again.stdout), {
    path: lib.path,
    wasBlocked: true,
    wasPublished: false,
  });

  const undone = await block('--undo', storeHash(lib.path));
  assert.equal(undone.stdout, `${storeHash(lib.path)}: can be published again\n`);
  await cache.publish(lib);
  assert.ok(await isReadable(lib.path));
  assert.equal((await runCommand(['verify', '-u', directory])).status, 0);
});

test('niche block makes this machine look up the path again', async (t) => {
  const env = { XDG_CACHE_HOME: await temporaryFolder(t) };
  const opened = await openCache(bucket.url);
  const known = async (): Promise<(string | null)[]> => {
    const record = await openLocalRecord(opened, env);
    try {
      return [record.known.findPath(lib.info), record.known.findPath(app.info)];
    } finally {
      record.close();
    }
  };
  const record = await openLocalRecord(opened, env);
  record.known.rememberPaths([lib.info, app.info], 'present');
  record.close();
  assert.deepEqual(await known(), ['present', 'present']);
  const undone = await runCommand(['block', '-u', directory, '--undo', lib.path], { env });
  assert.equal(undone.status, 0, undone.stderr);
  assert.deepEqual(await known(), [null, 'present']);
});

test('niche block --purge deletes the contents of a path, and refuses them until it is undone', async (t) => {
  const env = { XDG_CACHE_HOME: await temporaryFolder(t) };
  const block = (...args: readonly string[]): ReturnType<typeof runCommand> =>
    runCommand(['block', '-u', directory, ...args], { env });
  const secret = await localTestPath('secret');
  await cache.publish(secret);
  const { path, narHash } = secret.info;
  assert.match((await block('--purge', '--undo', path)).stderr, /cannot purge and undo at once/);
  const waiting = await block('--wait', '1s', path);
  assert.notEqual(waiting.status, 0);
  assert.match(waiting.stderr, /^niche: cannot use --wait without --purge: /);
  assert.ok(await bucket.head(`${storeHash(path)}.narinfo`), 'nothing is withdrawn');
  const purged = await block('--purge', '--wait', '0s', '--json', path);
  assert.equal(purged.status, 0, purged.stderr);
  const record = JSON.parse(purged.stdout) as { paths: string[]; deleted: string[] };
  assert.deepEqual(record.paths, [path]);
  assert.ok(record.deleted.some((url) => url.includes('/nar/')));
  assert.equal(await bucket.head(`${storeHash(path)}.narinfo`), null);
  const text = await block('--purge', '--wait', '0s', narHash);
  assert.match(text.stdout, /deleted and refused from now on[^]*Copies may remain/);
  for (const url of record.deleted) assert.ok(text.stdout.includes(`    ${url}\n`), url);
  assert.doesNotMatch(text.stdout, / 0 staged uploads/);
  const undone = await block('--undo', path);
  assert.equal(
    undone.stdout,
    `${path}: can be published again, but its contents are still refused: niche block --undo ${narHash}\n`,
  );
  assert.equal((await block('--undo', narHash)).stdout, `${narHash}: can be published again\n`);
  const unknown = await block('--purge', inventedPath('unknown'));
  assert.match(unknown.stderr, /does not know its contents/);
});
