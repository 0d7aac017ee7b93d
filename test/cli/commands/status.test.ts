import assert from 'node:assert/strict';
import { readFile, rm, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeReceipt } from '../../../core/cache/receipts/receipts.ts';
import { runCommand } from '../../support/lab/command.ts';
import { temporaryFileBucket } from '../../support/buckets/file-bucket.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';
import { localTestPath, makeBucketCache, testPublicKey } from '../../support/cache/bucket-cache.ts';

const { bucket, directory, close } = await temporaryFileBucket();
after(close);
const cache = await makeBucketCache(bucket);
const lib = await localTestPath('lib');
const gone = await localTestPath('gone');
const app = await localTestPath('app', [lib]);
const waiter = await localTestPath('waiter', [gone]);
const lone = await localTestPath('lone');
const liar = { ...lone, info: { ...lone.info, references: [lib.path] } };
const untrue = `the NAR of ${lone.path} does not contain 1 of its 1 claimed references: ${lib.path}`;

/** Returns the output with normalized times. */
function timeless(text: string): string {
  return text
    .replace(/\b\d+ (?:s|min|h|days)\b/g, '<age>')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '<time>');
}

test('a new cache', async () => {
  assert.deepEqual(await runCommand(['status', '-u', directory]), {
    status: 0,
    stdout: `test at ${bucket.url}
last publish: nothing in the last 30 days
staged: nothing
waiting: nothing
rejected in the last day: nothing
`,
    stderr: '',
  });
});

test('status shows the health of a cache, and the results of an upload', async () => {
  const upload = await cache.publish(lib, app, waiter, liar);
  const staged = await cache.stage(await localTestPath('one'), await localTestPath('two'));
  const old = new Date(Date.now() - 3 * 60 * 60 * 1000);
  await utimes(join(directory, 'staging', staged, '0.json'), old, old);

  const whole = await runCommand(['status', '-u', bucket.url]);
  assert.deepEqual([whole.status, whole.stderr], [0, '']);
  assert.equal(
    timeless(whole.stdout),
    `test at ${bucket.url}
last publish: <age> ago (<time>)
staged: 1 batch
  1 for more than <age>, the oldest <age> ago: is a publisher running?
  to publish it, run: niche worker --once ${bucket.url}
waiting: 1 path for 1 reference
  ${gone.path}
    1 path waiting, since <age>: ${waiter.path}
rejected in the last day: 1
  ${lone.path} (unproven-reference)
    ${untrue}
    <age> ago, upload ${upload}
`,
  );
  assert.match(whole.stdout, /1 for more than 15 min, the oldest 3 h ago/);

  const one = await runCommand(['status', upload], { env: { NICHE_CACHE_URL: bucket.url } });
  assert.deepEqual([one.status, one.stderr], [76, '']);
  const lines = timeless(one.stdout).split('\n');
  assert.deepEqual(lines.slice(0, 7), [
    `upload ${upload}, started <age> ago`,
    '1 rejected, 1 waiting, 2 published',
    `rejected: ${lone.path} (unproven-reference)`,
    `  ${untrue}`,
    `waiting: ${waiter.path}`,
    '  missing 1 reference:',
    `    ${gone.path}`,
  ]);
  assert.deepEqual(lines.slice(7).sort(), [
    '',
    ...[`published: ${lib.path}`, `published: ${app.path}`].sort(),
  ]);

  const open = await runCommand(['status', '-u', bucket.url, staged]);
  assert.deepEqual([open.status, open.stderr], [75, '']);
  assert.equal(
    timeless(open.stdout),
    `upload ${staged}, started <age> ago\n1 batch staged\nstaged <age> ago: batch 0: 2 paths\n`,
  );
});

test('status shows the results of a finished upload', async () => {
  const upload = await cache.publish(lib);
  const run = await runCommand(['status', '-u', bucket.url, upload]);
  assert.deepEqual([run.status, run.stderr], [0, '']);
  assert.equal(
    timeless(run.stdout),
    `upload ${upload}, started <age> ago\n1 already there\nalready there: ${lib.path}\n`,
  );
  const json = await runCommand(['status', '-u', bucket.url, '--json', upload]);
  const found = JSON.parse(json.stdout) as { receipts: { path: string; status: string }[] };
  assert.deepEqual(
    found.receipts.map(({ path, status }) => [path, status]),
    [[lib.path, 'exists']],
  );
  const whole = await runCommand(['status', '-u', bucket.url, '--json']);
  assert.equal(whole.stdout.split('\n').length, 2);
  assert.deepEqual(Object.keys(JSON.parse(whole.stdout) as object), [
    'lastPublished',
    'staged',
    'waiting',
    'rejected',
  ]);
});

test('status does not believe a forged receipt', async () => {
  const upload = await cache.publish(lib);
  const forged = await localTestPath('forged');
  const at = new Date().toISOString();
  const receipt = { path: forged.path, status: 'published', at } as const;
  await writeReceipt(cache.staging, upload, forged.hash, receipt);
  const run = await runCommand(['status', '-u', bucket.url, upload]);
  assert.deepEqual([run.status, run.stderr], [75, '']);
  assert.equal(
    timeless(run.stdout),
    `upload ${upload}, started <age> ago
1 not confirmed, 1 already there
not confirmed: ${forged.path}
  its receipt reports "published", but ${forged.hash}.narinfo in ${bucket.url} is missing
already there: ${lib.path}
`,
  );
  const json = await runCommand(['status', '-u', bucket.url, '--json', upload]);
  const { receipts } = JSON.parse(json.stdout) as { receipts: Record<string, string>[] };
  assert.deepEqual(
    receipts.map(({ path, unconfirmed }) => [path, unconfirmed !== undefined]).sort(),
    [
      [forged.path, true],
      [lib.path, false],
    ].sort(),
  );
});

test('status shortens long lists', async () => {
  const paths = await Promise.all(
    Array.from({ length: 25 }, (_, index) => localTestPath(`many-${index}`, [gone])),
  );
  const upload = await cache.publish(...paths);
  const { stdout } = await runCommand(['status', '-u', bucket.url, upload]);
  const lines = stdout.trimEnd().split('\n');
  assert.equal(lines[1], '25 waiting');
  assert.equal(lines.filter((line) => line.startsWith('waiting: ')).length, 20);
  assert.equal(lines.at(-1), '  … and 5 more (see --json)');
});

test('status refuses an unknown upload', async () => {
  const id = '01980c5e-7b1a-7cc2-a1f0-3d5a2f6f8a10';
  assert.deepEqual(await runCommand(['status', '-u', bucket.url, id]), {
    status: 1,
    stdout: '',
    stderr: `niche: no upload "${id}" at "${bucket.url}": it staged nothing, or its results expired after 30 days\n`,
  });
  assert.deepEqual(await runCommand(['status', '-u', bucket.url, '../x']), {
    status: 1,
    stdout: '',
    stderr: 'niche: invalid upload ID: expected a UUID, got "../x"\n',
  });
});

test('status gives the reason of a path whose upstream has an unusable narinfo of it', async (t) => {
  const own = await temporaryFileBucket();
  t.after(own.close);
  const upstream = memoryBucket({ url: 'memory:///upstream' });
  await upstream.put(`${lone.hash}.narinfo`, Buffer.from('<html>'));
  const open = { reader: upstream, publicKey: testPublicKey, url: 'https://up.example' };
  const dependent = await makeBucketCache(own.bucket, { upstreams: [open] });
  const upload = await dependent.publish(lone);
  const whole = await runCommand(['status', '-u', own.bucket.url]);
  assert.ok(
    timeless(whole.stdout).includes(
      `  ${lone.path}\n    waiting because an upstream has an unusable narinfo of it, since <age>\n`,
    ),
    whole.stdout,
  );
  const { stdout } = await runCommand(['status', '-u', own.bucket.url, upload]);
  assert.match(
    stdout,
    /waiting: .*-lone\n {2}comparing .*-lone with its upstream: .*\.narinfo in memory:\/\/\/upstream is unusable: /,
  );
});

test('a path of which the cache has another build is only reported, except with --strict', async (t) => {
  const own = await temporaryFileBucket();
  t.after(own.close);
  const raced = await makeBucketCache(own.bucket);
  const winner = await localTestPath('raced', [], Buffer.from('one'));
  const loser = await localTestPath('raced', [], Buffer.from('two'));
  await raced.publish(winner);
  const upload = await raced.publish(loser);
  const run = (...flags: string[]): ReturnType<typeof runCommand> =>
    runCommand(['status', '-u', own.bucket.url, upload, ...flags]);

  const found = await run();
  assert.deepEqual([found.status, found.stderr], [0, '']);
  const lines = found.stdout.split('\n');
  assert.equal(lines[1], '1 built differently');
  assert.equal(lines[2], `built differently: ${loser.path} (conflict)`);
  assert.equal(lines[4], `  niche audit -u ${own.bucket.url} --path ${loser.path}`);
  assert.equal((await run('--strict')).status, 76);
  const { receipts } = JSON.parse((await run('--json')).stdout) as { receipts: object[] };
  assert.equal((receipts[0] as { available?: boolean }).available, true);

  const info = await readFile(join(own.directory, `${winner.hash}.narinfo`), 'utf8');
  await rm(join(own.directory, /^URL: (.+)$/m.exec(info)?.[1] ?? ''));
  const broken = await run();
  assert.equal(broken.status, 76, 'readers cannot install the other build');
  assert.match(broken.stdout, /^1 rejected$/m);
});
