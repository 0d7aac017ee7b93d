import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { openS3Bucket } from '../../core/storage/s3.ts';
import { parseS3Url } from '../../core/storage/s3-url.ts';
import { listKeys, readObject } from '../support/bytes.ts';
import { requireS3 } from '../support/s3-servers.ts';

describe('who may do what in S3', { concurrency: false }, () => {
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
