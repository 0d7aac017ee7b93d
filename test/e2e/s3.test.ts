import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { openS3Bucket } from '../../core/storage/s3.ts';
import { parseS3Url } from '../../core/storage/s3-url.ts';
import { listKeys, readObject } from '../support/bytes.ts';
import { createMachine, skipUnlessChroot, until, type Machine } from '../support/e2e-machine.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { spawnNiche } from '../support/niche-process.ts';
import { requireNix } from '../support/nix-lab.ts';
import { requireS3, s3ServerNames, type S3Server } from '../support/s3-servers.ts';

interface Made {
  readonly storage: string;
  readonly private: string;
  readonly substituter: string;
  readonly publicKey: string;
}

/** Makes buckets and a cache in them by `niche init --create`. */
async function initCache(machine: Machine, server: S3Server, url: string): Promise<Made> {
  const args = ['init', url, '--create', '--name', 'acme', '--no-upstream', '--json'];
  const made = await machine.nicheDoes(args, { env: server.env });
  return JSON.parse(made.stdout) as Made;
}

/** A machine that has built nothing and knows the cache by its keys alone. */
async function readerOf(t: Parameters<typeof createMachine>[0], made: Made, machine: Machine) {
  return createMachine(t, {
    nix: machine.nix,
    trustedPublicKeys: [made.publicKey],
    settings: { substituters: made.substituter, 'require-sigs': 'true' },
  });
}

const slowDown = {
  status: 503,
  headers: { 'content-type': 'application/xml' },
  body: '<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>slow</Message></Error>',
};

for (const name of s3ServerNames) {
  describe(`a cache in S3 on ${name}`, { concurrency: false, timeout: 600_000 }, () => {
    test('is made, built into, published by a worker, and substituted from', async (t) => {
      const server = await requireS3(t, name);
      const nix = requireNix(t);
      if (server === null || nix === null) return;
      const machine = await createMachine(t, { nix });
      if (skipUnlessChroot(t, machine)) return;
      const { env } = server;
      const made = await initCache(machine, server, server.url('acme'));
      assert.equal(made.substituter, `${server.endpoint}/acme`);
      // No preset says what such a server can do: it was tried.
      assert.match(made.storage, /^s3:\/\/acme\?.*conditional=yes$/);
      assert.match(made.private, /^s3:\/\/acme-private\?.*conditional=yes$/);
      const again = await machine.niche(
        ['init', server.url('acme'), '--create', '--name', 'acme', '--no-upstream'],
        { env },
      );
      assert.match(again.stderr, /there is a cache/);

      await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);
      const url = server.url('acme');
      const built = await machine.nicheDoes(
        [
          'build',
          '-u',
          url,
          '--no-publish',
          '--',
          '-f',
          '.',
          'upper',
          '--print-out-paths',
          '--no-link',
        ],
        { env },
      );
      const upper = built.stdout.trim();
      const worked = await machine.nicheDoes(['worker', url, '--once'], { env });
      assert.match(worked.stderr, /2 paths published, 0 rejected/);
      await machine.nicheDoes(['verify', '-u', url], { env });
      const staged = openS3Bucket(parseS3Url(made.private), { credentials: server.credentials });
      assert.deepEqual(await listKeys(staged, 'staging/'), []);

      const copying = await readerOf(t, made, machine);
      await copying.output('nix', ['copy', '--from', made.substituter, upper]);
      const substituting = await readerOf(t, made, machine);
      await substituting.output('nix-store', ['--realise', upper]);
      await substituting.output('nix-store', ['--verify-path', upper]);
      const strangers = await createMachine(t, {
        nix,
        settings: { substituters: made.substituter, 'require-sigs': 'true' },
      });
      const refused = await strangers.run('nix-store', ['--realise', upper]);
      assert.notEqual(refused.status, 0);
    });

    // Once is enough: what differs between the servers is in the test before.
    if (name !== 'versitygw') return;
    test('publishes in the process that builds, and nix reads it as s3://', async (t) => {
      const server = await requireS3(t, name);
      const nix = requireNix(t);
      if (server === null || nix === null) return;
      const machine = await createMachine(t, { nix });
      if (skipUnlessChroot(t, machine)) return;
      const { env } = server;
      const made = await initCache(machine, server, `${server.url('acme')}&conditional=yes`);
      await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);
      const upper = await machine.output('nix-build', ['--no-out-link', '-A', 'upper']);
      const pushed = await machine.nicheDoes(
        ['push', '-u', made.storage, '--publish', 'local', upper],
        { env },
      );
      assert.match(pushed.stderr, /2 paths published/);
      const reader = await readerOf(t, made, machine);
      const s3 = `s3://acme?region=${server.region}&scheme=http&endpoint=${server.endpoint.slice('http://'.length)}`;
      const ran = await reader.run('nix', ['copy', '--from', s3, upper], { env });
      if (/don.t know how to open|without S3|is not supported/i.test(ran.stderr)) {
        t.diagnostic(`Nix ${nix.version} is built without S3`);
        return;
      }
      assert.equal(ran.status, 0, ran.stderr);
      await reader.output('nix-store', ['--verify-path', upper]);
    });
  });
}

describe('a cache in S3 that is not as it should be', { concurrency: false }, () => {
  test('takes 2,000 paths through a server that allows 100 requests a second', async (t) => {
    const server = await requireS3(t);
    const nix = requireNix(t);
    if (server === null || nix === null) return;
    const machine = await createMachine(t, { nix });
    const proxy = await startFaultProxy(server.endpoint);
    t.after(() => proxy.stop());
    await initCache(machine, server, `${server.url('acme', proxy.url)}&conditional=yes`);
    const sources = join(machine.work, 'sources');
    await mkdir(sources);
    const files = Array.from({ length: 2000 }, (_, number) => join(sources, `source-${number}`));
    for (const file of files) await writeFile(file, `${file}\n`);
    const paths: string[] = [];
    for (let next = 0; next < files.length; next += 500) {
      const added = await machine.output('nix-store', ['--add', ...files.slice(next, next + 500)]);
      paths.push(...added.split('\n'));
    }
    proxy.limit(100, slowDown);
    const report = join(machine.work, 'report.jsonl');
    const pushed = await machine.nicheDoes(
      ['push', '-u', server.url('acme', proxy.url), '--no-publish', '--report', report],
      { env: server.env, input: paths.join('\n') },
    );
    assert.match(pushed.stderr, /2,?000 paths staged/);
    t.diagnostic(`${proxy.requests.length} requests`);
  });

  test('without conditional writes it is published to by one process at a time', async (t) => {
    const server = await requireS3(t);
    const nix = requireNix(t);
    if (server === null || nix === null) return;
    const machine = await createMachine(t, { nix });
    const proxy = await startFaultProxy(server.endpoint);
    t.after(() => proxy.stop());
    const conditions = ['if-none-match', 'if-match'];
    proxy.inject(({ method, headers }) =>
      method === 'PUT' && conditions.some((header) => headers[header] !== undefined)
        ? { kind: 'answer', status: 501, body: '<Error><Code>NotImplemented</Code></Error>' }
        : null,
    );
    const made = await initCache(machine, server, server.url('acme', proxy.url));
    assert.match(made.storage, /conditional=no/);
    await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);
    const upper = await machine.output('nix-build', ['--no-out-link', '-A', 'upper']);
    const { env } = server;
    const worker = spawnNiche(['worker', made.storage], {
      cwd: machine.work,
      env: { ...machine.env, ...env },
    });
    t.after(() => worker.process.kill('SIGKILL'));
    const bucket = openS3Bucket(parseS3Url(made.private), { credentials: server.credentials });
    await until('the worker runs', async () => (await listKeys(bucket, 'publishers/')).length > 0);
    const refused = await machine.niche(['push', '-u', made.storage, '--publish', 'local', upper], {
      env,
    });
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /another process publishes to s3:.*process [0-9]+ on /);
    const args = ['push', '-u', made.storage, '--wait', '60s', upper];
    await machine.nicheDoes(args, { env });
    worker.interrupt('SIGTERM');
    const { stderr } = await worker.ended;
    assert.match(stderr, /does not write conditionally: only one process may publish/);
    assert.match(stderr, /2 paths published, 0 rejected/);
    assert.deepEqual(await listKeys(bucket, 'publishers/'), []);
    await machine.nicheDoes(['push', '-u', made.storage, '--publish', 'local', upper], { env });
    await machine.nicheDoes(['verify', '-u', made.storage], { env });
  });

  test('uploaders can stage and read their own receipts, everyone the public root', async (t) => {
    const server = await requireS3(t);
    if (server === null) return;
    const [acme, secret] = [await server.createBucket('acme'), await server.createBucket('secret')];
    const owner = openS3Bucket(parseS3Url(server.url(secret)), { credentials: server.credentials });
    const readable = openS3Bucket(parseS3Url(server.url(acme)), {
      credentials: server.credentials,
    });
    const uploader = await server.addUser('uploader');
    const upload = '01890000-0000-7000-8000-000000000001';
    const other = '01890000-0000-7000-8000-000000000002';
    await server.publish(acme);
    await server.setPolicy(secret, uploaderStatements(secret, uploader.accessKeyId, upload));
    const narInfo = `${'0'.repeat(32)}.narinfo`;
    await readable.put('nix-cache-info', Buffer.from('StoreDir: /nix/store\n'));
    await readable.put(narInfo, Buffer.from('x'));
    await owner.put(`receipts/${upload}/x.published.json`, Buffer.from('mine'));
    await owner.put(`receipts/${other}/x.published.json`, Buffer.from('theirs'));
    await owner.put(`staging/${other}/0.json`, Buffer.from('theirs'));
    await owner.put('audit/2026/01/01/x.jsonl', Buffer.from('audit'));

    const theirs = openS3Bucket(parseS3Url(server.url(secret)), { credentials: uploader });
    const create = { ifAbsent: true };
    const denied = { code: 'storage-denied' };
    const nars = `staging/${upload}/0.nars`;
    assert.equal(await theirs.put(nars, Buffer.from('n'), create), 'created');
    const large = await theirs.upload(`staging/${upload}/1.nars`);
    await large.write(Buffer.alloc(17 * 2 ** 20, 1));
    assert.equal(await large.commit(create), 'created');
    assert.deepEqual(await listKeys(theirs, `receipts/${upload}/`), [
      `receipts/${upload}/x.published.json`,
    ]);
    assert.equal(String(await readObject(theirs, `receipts/${upload}/x.published.json`)), 'mine');
    // What is staged stays as it is, whether the uploader asks for that or not.
    assert.equal(await theirs.put(nars, Buffer.from('m'), create), 'exists');
    await assert.rejects(theirs.delete([nars]), denied);
    await assert.rejects(readObject(theirs, nars), denied);
    for (const key of [
      `receipts/${other}/x.published.json`,
      `staging/${other}/0.json`,
      'audit/2026/01/01/x.jsonl',
    ]) {
      await assert.rejects(theirs.get(key), denied, key);
      await assert.rejects(theirs.delete([key]), denied, key);
    }
    for (const prefix of ['', 'staging/', `receipts/${other}/`, 'audit/']) {
      await assert.rejects(listKeys(theirs, prefix), denied, prefix);
    }
    await assert.rejects(theirs.put('audit/x.jsonl', Buffer.from('x')), denied);
    const published = openS3Bucket(parseS3Url(server.url(acme)), { credentials: uploader });
    await assert.rejects(published.put(`${'1'.repeat(32)}.narinfo`, Buffer.from('x')), denied);
    await assert.rejects(published.put('nar/x.nar.zst', Buffer.from('x')), denied);
    assert.equal(String(await readObject(published, narInfo)), 'x');
    assert.equal(await published.head(`${'2'.repeat(32)}.narinfo`), null);

    for (const [bucket, key, status] of [
      [acme, narInfo, 200],
      [secret, `receipts/${upload}/x.published.json`, 403],
      [secret, nars, 403],
      [acme, '?list-type=2', 403],
    ] as const) {
      const response: Response = await fetch(`${server.endpoint}/${bucket}/${key}`);
      assert.equal(response.status, status, key);
      await response.body?.cancel();
    }
    const anyone = openS3Bucket(parseS3Url(server.url(acme)), {
      credentials: { kind: 'anonymous' },
    });
    assert.equal(String(await readObject(anyone, narInfo)), 'x');
    await assert.rejects(anyone.put('x', Buffer.from('x')), denied);
    await assert.rejects(listKeys(anyone), denied);
  });
});

/** As docs/storage/s3.md gives them to uploaders, for one upload. */
function uploaderStatements(bucket: string, user: string, upload: string): object[] {
  const Principal = { AWS: user };
  const arn = `arn:aws:s3:::${bucket}`;
  return [
    {
      Effect: 'Allow',
      Principal,
      Action: ['s3:PutObject', 's3:AbortMultipartUpload'],
      Resource: `${arn}/staging/${upload}/*`,
    },
    { Effect: 'Allow', Principal, Action: 's3:GetObject', Resource: `${arn}/receipts/${upload}/*` },
    {
      Effect: 'Allow',
      Principal,
      Action: 's3:ListBucket',
      Resource: arn,
      Condition: { StringLike: { 's3:prefix': `receipts/${upload}/*` } },
    },
  ];
}
