import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { generateX25519Identity, identityToRecipient } from 'age-encryption';

import { newUploadId } from '../../core/cache/upload-id.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import type { S3Credentials } from '../../core/storage/credentials.ts';
import { openS3Bucket } from '../../core/storage/s3/driver.ts';
import { parseS3Url } from '../../core/storage/s3/url.ts';
import { listKeys, readObject } from '../support/assert/bytes.ts';
import { createMachine, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import {
  startFaultProxy,
  type Fault,
  type ProxiedRequest,
} from '../support/servers/fault-proxy.ts';
import { isAllowed, type PolicyDocument, type Statement } from '../support/servers/iam-policy.ts';
import { requireNix } from '../support/lab/nix-lab.ts';
import { temporaryFolder } from '../support/cache/small-cache.ts';
import { runNiche, type NicheRun } from '../support/lab/niche-process.ts';
import { awsEnv, requireS3 } from '../support/servers/s3-servers.ts';
import { initCache, readerOf } from './made.ts';

const denied = { code: 'storage-denied' };

/** Keys of the private root. */
const privateKeys = [
  'pending/x',
  'waiting/x',
  'attempts/x',
  'blocked/x',
  'audit/x',
  'niche.signing.json',
];

function assertRefused({ status, stderr }: NicheRun, root: string, bucket: string): void {
  assert.equal(status, 1, stderr);
  assert.match(
    stderr,
    new RegExp(
      `^niche: the credentials for clients must not write to the ${root} root s3://${bucket}\\?.*, but they can\nhint: limit them`,
      'm',
    ),
  );
}

/** Reads the policy for uploaders from docs/storage/s3.md. */
async function documentedPolicy(): Promise<PolicyDocument> {
  const file = join(import.meta.dirname, '../../docs/storage/s3.md');
  const [, json = ''] = /```json\n([^]*?)```/.exec(await readFile(file, 'utf8')) ?? [];
  return JSON.parse(json) as PolicyDocument;
}

/** The permissions of a worker on that page, as statements: those of the publisher and the sweep. */
const workerPolicy: PolicyDocument = {
  Statement: [
    {
      Effect: 'Allow',
      Action: ['s3:GetObject', 's3:PutObject', 's3:DeleteObject'],
      Resource: ['arn:aws:s3:::acme/*', 'arn:aws:s3:::acme-private/*'],
    },
    {
      Effect: 'Allow',
      Action: ['s3:GetObject', 's3:DeleteObject'],
      Resource: 'arn:aws:s3:::acme-staging/staging/*',
    },
    {
      Effect: 'Allow',
      Action: ['s3:PutObject', 's3:DeleteObject'],
      Resource: 'arn:aws:s3:::acme-staging/receipts/*',
    },
    {
      Effect: 'Allow',
      Action: 's3:ListBucket',
      Resource: ['arn:aws:s3:::acme', 'arn:aws:s3:::acme-staging', 'arn:aws:s3:::acme-private'],
    },
    {
      Effect: 'Allow',
      Action: 's3:ListBucketMultipartUploads',
      Resource: ['arn:aws:s3:::acme', 'arn:aws:s3:::acme-staging'],
    },
    {
      Effect: 'Allow',
      Action: ['s3:AbortMultipartUpload', 's3:ListMultipartUploadParts'],
      Resource: ['arn:aws:s3:::acme/nar/*', 'arn:aws:s3:::acme-staging/staging/*'],
    },
  ],
};

/** Converts a user's policy to a bucket policy. A bucket accepts only statements about itself. */
function inBucket(bucket: string, user: S3Credentials, { Statement }: PolicyDocument): Statement[] {
  const arn = `arn:aws:s3:::${bucket}`;
  return Statement.flatMap((statement) => {
    const Resource = [statement.Resource ?? []]
      .flat()
      .filter((resource) => resource === arn || resource.startsWith(`${arn}/`));
    const isKnown = statement.Condition?.['Null'] === undefined;
    if (Resource.length === 0 || !isKnown) return [];
    return [{ ...statement, Resource, Principal: { AWS: user.accessKeyId } }];
  });
}

/** Returns whether AWS would deny the write by a condition that this server does not support. */
function refusedWrite({ method, path, headers }: ProxiedRequest, policy: PolicyDocument): boolean {
  const [pathname = '', query = ''] = path.split('?');
  const isEnd = method === 'POST' && query.includes('uploadId=');
  if (method !== 'PUT' && !isEnd) return false;
  const condition = headers['if-none-match'];
  const context = {
    's3:ObjectCreationOperation': String(isEnd || !query.includes('uploadId=')),
    ...(condition === undefined ? {} : { 's3:if-none-match': condition }),
  };
  const resource = `arn:aws:s3:::${decodeURIComponent(pathname.slice(1))}`;
  return !isAllowed({ action: 's3:PutObject', resource, context }, [policy]);
}

const accessDenied: Fault = {
  kind: 'answer',
  status: 403,
  headers: { 'content-type': 'application/xml' },
  body: '<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>',
};

describe('permissions in S3', { concurrency: false }, () => {
  test('uploaders can stage and read their own receipts; everyone can read the public root', async (t) => {
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
    const nars = `staging/${upload}/0.nars`;
    assert.equal(await theirs.put(nars, Buffer.from('n'), create), 'created');
    const large = await theirs.upload(`staging/${upload}/1.nars`);
    await large.write(Buffer.alloc(17 * 2 ** 20, 1));
    assert.equal(await large.commit(create), 'created');
    assert.deepEqual(await listKeys(theirs, `receipts/${upload}/`), [
      `receipts/${upload}/x.published.json`,
    ]);
    assert.equal(String(await readObject(theirs, `receipts/${upload}/x.published.json`)), 'mine');
    // Staged objects cannot be replaced, with or without a conditional write.
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

  for (const [title, parameters] of [
    ['the documented policies let one user stage and another publish', ''],
    ['the documented policies also work without conditional writes', '&conditional=no'],
  ] as const) {
    test(title, async (t) => {
      const server = await requireS3(t);
      const nix = requireNix(t);
      if (server === null || nix === null) return;
      const machine = await createMachine(t, { nix });
      if (skipUnlessChroot(t, machine)) return;
      const proxy = await startFaultProxy(server.endpoint);
      t.after(() => proxy.stop());
      const url = server.url('acme', proxy.url) + parameters;
      const made = await initCache(machine, url, server.env);
      const [uploader, publisher] = [
        await server.addUser('uploader'),
        await server.addUser('publisher'),
      ];
      const policy = await documentedPolicy();
      for (const bucket of ['acme', 'acme-staging', 'acme-private']) {
        const everyone = {
          Effect: 'Allow',
          Principal: '*',
          Action: 's3:GetObject',
          Resource: 'arn:aws:s3:::acme/*',
        };
        await server.setPolicy(bucket, [
          ...(bucket === 'acme' ? [everyone] : []),
          ...inBucket(bucket, uploader, policy),
          ...inBucket(bucket, publisher, workerPolicy),
        ]);
      }
      let isEmpty = true;
      let hidden = 0;
      proxy.inject((request) => {
        if (request.headers['authorization']?.includes('Credential=uploader/') !== true)
          return null;
        // S3 responds like this for an absent key if the user cannot list.
        if (isEmpty && request.path.includes('.narinfo')) {
          hidden += 1;
          return accessDenied;
        }
        return parameters === '' && refusedWrite(request, policy) ? accessDenied : null;
      });

      await machine.writeGraph([
        { name: 'lower' },
        { name: 'large', bytes: 20_000_000, deps: ['lower'] },
      ]);
      const large = await machine.output('nix-build', ['--no-out-link', '-A', 'large']);
      const env = awsEnv(uploader);
      const staged = await machine.nicheDoes(['push', '-u', url, '--no-publish', large], { env });
      assert.match(staged.stderr, /2 paths staged/);
      assert.ok(hidden > 0, 'narinfos were asked for, and denied');
      const worked = await machine.nicheDoes(['worker', url, '--once'], { env: awsEnv(publisher) });
      assert.match(worked.stderr, /2 paths published, 0 rejected/);
      isEmpty = false;
      const told = await machine.nicheDoes(['push', '-u', url, large], { env });
      assert.doesNotMatch(told.stderr, /staged [1-9]/);
      const [owner, ownPrivate] = [made.staging, made.private].map((root) =>
        openS3Bucket(parseS3Url(root), { credentials: server.credentials }),
      ) as [Bucket, Bucket];
      const [, id = ''] =
        /^receipts\/([^/]+)\//.exec((await listKeys(owner, 'receipts/'))[0] ?? '') ?? [];
      const status = await machine.nicheDoes(['status', '-u', url, id], { env });
      assert.match(
        status.stdout,
        /\n2 published\nthese credentials cannot list what else is staged\n/,
      );
      const early = await machine.niche(['status', '-u', url, newUploadId()], { env });
      assert.equal(early.status, 75, early.stderr);
      assert.match(early.stdout, /\nno results yet\nthese credentials/);
      const reader = await readerOf(t, machine, made);
      await reader.output('nix-store', ['--realise', large]);

      const [acme, staging, secret] = [made.storage, made.staging, made.private].map((root) =>
        openS3Bucket(parseS3Url(root), { credentials: uploader }),
      ) as [Bucket, Bucket, Bucket];
      const [upload, other] = [newUploadId(), newUploadId()];
      const [ours, theirs] = [`staging/${upload}/0.nars`, `staging/${other}/0.nars`];
      await owner.put(theirs, Buffer.from('theirs'));
      await owner.put(`receipts/${other}/x.published.json`, Buffer.from('theirs'));
      const [audited = ''] = await listKeys(ownPrivate, 'audit/');
      assert.equal(await staging.put(ours, Buffer.from('ours'), { ifAbsent: true }), 'created');
      if (parameters === '') {
        for (const key of [ours, theirs]) {
          await assert.rejects(staging.put(key, Buffer.from('other')), denied);
          assert.equal(await staging.put(key, Buffer.from('x'), { ifAbsent: true }), 'exists');
          const parts = await staging.upload(key);
          await parts.write(Buffer.alloc(17 * 2 ** 20));
          await assert.rejects(parts.commit(), denied);
          await parts.abort();
        }
        assert.equal(String(await readObject(owner, ours)), 'ours');
        assert.equal(String(await readObject(owner, theirs)), 'theirs');
      }
      for (const key of [ours, theirs]) {
        await assert.rejects(staging.get(key), denied, key);
        await assert.rejects(staging.delete([key]), denied, key);
      }
      for (const prefix of ['', 'staging/', `staging/${other}/`, 'receipts/']) {
        await assert.rejects(listKeys(staging, prefix), denied, prefix);
      }
      for (const key of [`receipts/${upload}/x.published.json`, 'pending/x', 'blocked/x']) {
        await assert.rejects(staging.put(key, Buffer.from('x'), { ifAbsent: true }), denied, key);
      }
      for (const key of [audited, ...privateKeys]) {
        await assert.rejects(secret.put(key, Buffer.from('x'), { ifAbsent: true }), denied, key);
        await assert.rejects(secret.put(key, Buffer.from('x')), denied, key);
        await assert.rejects(secret.get(key), denied, key);
        await assert.rejects(secret.delete([key]), denied, key);
      }
      for (const prefix of ['', 'pending/', 'receipts/', `receipts/${upload}/`, 'audit/']) {
        await assert.rejects(listKeys(secret, prefix), denied, prefix);
      }
      for (const key of [`${'1'.repeat(32)}.narinfo`, 'nar/x.nar.zst', 'niche.json']) {
        await assert.rejects(acme.put(key, Buffer.from('x')), denied, key);
        await assert.rejects(acme.delete([key]), denied, key);
      }
    });
  }

  test('niche init tries the credentials for clients, and refuses unsafe ones', async (t) => {
    const server = await requireS3(t);
    if (server === null) return;
    const folder = await temporaryFolder(t);
    const uploader = await server.addUser('uploader');
    const roots = ['acme', 'acme-staging', 'acme-private'];
    for (const root of roots) await server.createBucket(root);
    const file = join(folder, 'credentials.json');
    await writeFile(file, JSON.stringify(uploader));
    const recipient = await identityToRecipient(await generateX25519Identity());
    const init = (): Promise<NicheRun> =>
      runNiche(
        [
          ...['init', server.url('acme'), '--name', 'acme', '--no-upstream'],
          ...['--age', recipient, '--upload-credentials', file],
          ...['--secret-key-file', join(folder, 'key')],
        ],
        { cwd: folder, env: { ...server.env, HOME: folder } },
      );
    const everything = (bucket: string): object[] => {
      const arn = `arn:aws:s3:::${bucket}`;
      const Principal = { AWS: uploader.accessKeyId };
      return [{ Effect: 'Allow', Principal, Action: 's3:*', Resource: [arn, `${arn}/*`] }];
    };
    const nothing = (bucket: string): object[] => [
      {
        Effect: 'Deny',
        Principal: { AWS: uploader.accessKeyId },
        Action: 's3:*',
        Resource: [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`],
      },
    ];
    const stored = async (): Promise<string[]> =>
      (
        await Promise.all(
          roots.map((root) =>
            listKeys(
              openS3Bucket(parseS3Url(server.url(root)), { credentials: server.credentials }),
            ),
          ),
        )
      ).flat();

    // A key for all buckets, as an administrator might pass by mistake, and one that reaches one too many.
    for (const root of roots) await server.setPolicy(root, everything(root));
    assertRefused(await init(), 'private', 'acme-private');
    assert.deepEqual(await stored(), []);
    await server.setPolicy('acme-private', nothing('acme-private'));
    assertRefused(await init(), 'public', 'acme');
    assert.deepEqual(await stored(), []);

    // A key that cannot stage is of no use.
    for (const root of roots) await server.setPolicy(root, nothing(root));
    const useless = await init();
    assert.equal(useless.status, 1, useless.stderr);
    assert.match(useless.stderr, /access denied/);
    assert.deepEqual(await stored(), []);

    await server.setPolicy(
      'acme-staging',
      inBucket('acme-staging', uploader, await documentedPolicy()),
    );
    const made = await init();
    assert.equal(made.status, 0, made.stderr);
    // This server knows no condition that keeps a client from replacing objects.
    assert.match(
      made.stdout,
      /^tried the credentials for clients: they can create and overwrite objects in the staging root, and do nothing elsewhere that was tried$/m,
    );
    assert.deepEqual((await stored()).sort(), [
      'niche.client.json',
      'niche.json',
      'nix-cache-info',
    ]);
  });

  test('a denied narinfo is not treated as missing if no other narinfo is readable', async (t) => {
    const server = await requireS3(t);
    const nix = requireNix(t);
    if (server === null || nix === null) return;
    const machine = await createMachine(t, { nix });
    const url = server.url('acme');
    await initCache(machine, url, server.env);
    const uploader = await server.addUser('uploader');
    await server.setPolicy('acme', [
      {
        Effect: 'Allow',
        Principal: '*',
        Action: 's3:GetObject',
        Resource: 'arn:aws:s3:::acme/niche.json',
      },
    ]);
    await server.setPolicy(
      'acme-staging',
      inBucket('acme-staging', uploader, await documentedPolicy()),
    );
    await machine.writeGraph([{ name: 'lower' }]);
    const path = await machine.output('nix-build', ['--no-out-link', '-A', 'lower']);
    const ran = await machine.niche(['push', '-u', url, '--no-publish', path], {
      env: awsEnv(uploader),
    });
    assert.equal(ran.status, 76, ran.stderr);
    assert.match(
      ran.stderr,
      /narinfo" in s3:\/\/acme\?.* failed: access denied \(AccessDenied, 403\)/,
    );
  });
});

/** Returns the uploader statements of docs/storage/s3.md, limited to one upload. */
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
