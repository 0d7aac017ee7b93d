import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import {
  CreateKeyCommand,
  DisableKeyCommand,
  KMSClient,
  ScheduleKeyDeletionCommand,
} from '@aws-sdk/client-kms';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { parsePublicKey, verifyFingerprint } from '../../../core/nix/keys.ts';
import { openAwsKms } from '../../../core/kms/aws.ts';
import { createSigningKey, kmsSigner, readPublicKey } from '../../../core/signing/kms.ts';
import { createRetrier } from '../../../core/util/retry.ts';
import { requireMinistack } from '../../support/servers/ministack.ts';
import { testPath } from '../../support/cache/paths.ts';

const quick = createRetrier({ firstBackoffMs: 1, maxAttempts: 3, maxElapsedMs: 5_000 });
const credentials = { accessKeyId: 'test', secretAccessKey: 'test' };

describe('AWS KMS', () => {
  it('signs fingerprints with an Ed25519 key that it creates', async (t) => {
    const aws = await requireMinistack(t);
    if (!aws) return;
    const config = { endpoint: aws.endpoint, region: aws.region, credentials };
    const kms = openAwsKms({ config });
    const arn = await createSigningKey(kms, 'alias/niche-acme', 'niche cache acme');
    assert.match(arn, /^arn:aws:kms:eu-central-1:000000000000:key\//);
    const publicKey = await readPublicKey(kms, 'alias/niche-acme', 'acme-1');
    assert.equal(await readPublicKey(kms, arn, 'acme-1'), publicKey);

    const signer = kmsSigner(kms, arn, publicKey);
    const { info } = await testPath('hello', { selfReference: true });
    const text = fingerprint(info, '/nix/store');
    const { signature, requestId } = await signer.sign(text);
    assert.ok(verifyFingerprint(text, signature, [parsePublicKey(publicKey)]));
    assert.match(requestId ?? '', /./);
    assert.deepEqual(
      [signer.keyName, signer.keyId, signer.maxBytes],
      ['acme-1', arn, kms.maxMessageBytes],
    );
    const longest = '1'.repeat(kms.maxMessageBytes);
    assert.ok(
      verifyFingerprint(longest, (await signer.sign(longest)).signature, [
        parsePublicKey(publicKey),
      ]),
    );

    await assert.rejects(createSigningKey(kms, 'alias/niche-acme', 'again'), { code: 'usage' });
    await assert.rejects(readPublicKey(kms, 'alias/none', 'x'), { code: 'wrong-key' });
    const client = new KMSClient(config);
    const { KeyMetadata } = await client.send(
      new CreateKeyCommand({ KeySpec: 'RSA_2048', KeyUsage: 'SIGN_VERIFY' }),
    );
    await assert.rejects(readPublicKey(kms, KeyMetadata?.KeyId ?? '', 'x'), { code: 'wrong-key' });
    await client.send(new DisableKeyCommand({ KeyId: arn }));
    await assert.rejects(signer.sign(text), { code: 'wrong-key' });
    await client.send(new ScheduleKeyDeletionCommand({ KeyId: arn }));
    await assert.rejects(signer.sign(text), { code: 'wrong-key' });
    const stranger = openAwsKms({
      config: {
        ...config,
        credentials: { accessKeyId: 'AKIASTRANGER00000000', secretAccessKey: 'x' },
      },
    });
    await assert.rejects(readPublicKey(stranger, arn, 'x'), { code: 'signer-denied' });
  });

  const failures: [string, number, string][] = [
    ['signer-denied', 400, 'AccessDeniedException'],
    ['signer-denied', 400, 'ExpiredTokenException'],
    ['wrong-key', 400, 'DisabledException'],
    ['wrong-key', 400, 'KMSInvalidStateException'],
    ['signer-unavailable', 500, 'KMSInternalException'],
    ['signer-unavailable', 400, 'ThrottlingException'],
  ];
  for (const [code, status, name] of failures) {
    it(`fails with ${code} after ${name}`, async (t) => {
      const { kms, count } = await fakeKms(t, () => [status, { __type: name, message: 'no' }]);
      await assert.rejects(kmsSigner(kms, 'alias/x', `x-1:${'A'.repeat(43)}=`).sign('text'), {
        code,
      });
      const isRetried = code === 'signer-unavailable';
      assert.equal(count() > 1, isRetried);
    });
  }

  it('retries while it throttles, and then signs', async (t) => {
    const { kms, count } = await fakeKms(t, (n) =>
      n < 8
        ? [400, { __type: 'ThrottlingException', message: 'Rate exceeded' }]
        : [200, { Signature: Buffer.alloc(64).toString('base64') }],
    );
    const { signature } = await kmsSigner(kms, 'alias/x', `x-1:${'A'.repeat(43)}=`).sign('text');
    assert.match(signature, /^x-1:A+==$/);
    assert.equal(count(), 8);
  });

  it('refuses a response that is not a signature', async (t) => {
    const { kms } = await fakeKms(t, () => [200, { Signature: 'AAAA' }]);
    const signing = kmsSigner(kms, 'alias/x', `x-1:${'A'.repeat(43)}=`).sign('text');
    await assert.rejects(signing, { code: 'signer-unavailable' });
  });

  it('reports why an alias failed, and the key that it could not delete', async (t) => {
    const arn = 'arn:aws:kms:eu-central-1:000000000000:key/1';
    const { kms } = await fakeKms(t, (n) =>
      n === 1
        ? [200, { KeyMetadata: { KeyId: '1', Arn: arn } }]
        : [400, { __type: n === 2 ? 'AlreadyExistsException' : 'AccessDeniedException' }],
    );
    await assert.rejects(createSigningKey(kms, 'alias/x', 'test'), {
      code: 'usage',
      hint: `delete the unused key: aws kms schedule-key-deletion --key-id ${arn}`,
    });
  });

  it('is unavailable when nothing listens', async () => {
    const config = { endpoint: 'http://127.0.0.1:9', region: 'eu-central-1', credentials };
    const kms = openAwsKms({ config, retrier: quick });
    await assert.rejects(readPublicKey(kms, 'alias/x', 'x'), { code: 'signer-unavailable' });
  });
});

/** Starts a KMS that sends the response `answer(n)` to its nth request. */
async function fakeKms(
  t: TestContext,
  answer: (request: number) => [number, object],
): Promise<{ kms: ReturnType<typeof openAwsKms>; count: () => number }> {
  let count = 0;
  const server = createServer((_request, response) => {
    count += 1;
    const [status, body] = answer(count);
    response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' });
    response.end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const address = server.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  const config = { endpoint: `http://127.0.0.1:${port}`, region: 'eu-central-1', credentials };
  const retrier = createRetrier({
    firstBackoffMs: 1,
    maxAttempts: 3,
    maxElapsedMs: 2_000,
    maxBackoffMs: 50,
  });
  return { kms: openAwsKms({ config, retrier }), count: () => count };
}
