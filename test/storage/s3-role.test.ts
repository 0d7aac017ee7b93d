import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { promisify } from 'node:util';

import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';

import { requireMinistack } from '../support/servers/ministack.ts';

/** Opens the bucket in a separate process, because the SDK's chain reads the environment. */
const script = `
  const { openBucket } = await import(process.argv[1]);
  const [, , url, role] = process.argv;
  const bucket = openBucket(url, { credentials: { kind: 's3-role', role } });
  await bucket.put('staging/x', Buffer.from('by a role'));
  const names = [];
  for await (const { key } of bucket.list('')) names.push(key);
  console.log(names.join());
`;

test('a role is assumed with the machine’s own credentials', async (t) => {
  const aws = await requireMinistack(t, { iam: false });
  if (!aws) return;
  const { endpoint, region, credentials } = aws;
  const admin = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  t.after(() => {
    admin.destroy();
  });
  await admin.send(new CreateBucketCommand({ Bucket: 'acme-private' }));
  const role = `arn:aws:iam::${aws.accountId}:role/uploader`;
  // Proxies STS, to record its requests.
  const asked: (string | null)[][] = [];
  const proxy = createServer((request, response) => {
    void (async () => {
      const body = await text(request);
      const form = new URLSearchParams(body);
      asked.push([form.get('Action'), form.get('RoleArn')]);
      const { authorization = '', 'content-type': type = '' } = request.headers;
      const headers = { authorization, 'content-type': type };
      const answer = await fetch(endpoint, { method: 'POST', headers, body });
      response.writeHead(answer.status, { 'content-type': 'text/xml' }).end(await answer.text());
    })();
  });
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  t.after(() => proxy.close());
  const sts = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const module = join(import.meta.dirname, '../../core/storage/open/open-bucket.ts');
  const run = (env: Readonly<Record<string, string>>): Promise<{ stdout: string }> =>
    promisify(execFile)(
      process.execPath,
      [
        ...['--input-type=module', '-e', script, module],
        `s3://acme-private?region=${region}&endpoint=${endpoint}`,
        role,
      ],
      {
        env: { PATH: process.env['PATH'] ?? '', ...env, AWS_ENDPOINT_URL_STS: sts },
      },
    );
  assert.equal((await run(aws.env)).stdout.trim(), 'staging/x');
  assert.deepEqual(asked, [['AssumeRole', role]]);
  // Assuming a role requires credentials.
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...nobody } = aws.env as Record<string, string>;
  assert.ok(AWS_ACCESS_KEY_ID !== undefined && AWS_SECRET_ACCESS_KEY !== undefined);
  await assert.rejects(run({ ...nobody, AWS_EC2_METADATA_DISABLED: 'true' }), /storage-denied/);
});
