import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, it } from 'node:test';

import type { S3ClientConfig } from '@aws-sdk/client-s3';
import { HttpResponse } from '@smithy/core/protocols';
import type { HttpRequest } from '@smithy/core/protocols';
import fc from 'fast-check';

import type { Bucket } from '../../../../core/storage/bucket.ts';
import { openS3Bucket } from '../../../../core/storage/s3/driver.ts';
import { openFastPut } from '../../../../core/storage/s3/fast-put.ts';
import type { FastPut, SmallPut } from '../../../../core/storage/s3/fast-put.ts';
import * as sdk from '../../../../core/storage/s3/sdk.ts';
import { Sha256 } from '../../../../core/storage/s3/sha256.ts';
import { parseS3Url } from '../../../../core/storage/s3/url.ts';

const body = Buffer.from('contents');
const digest = createHash('sha256').update(body).digest();

const put: SmallPut = {
  Bucket: 'acme',
  Key: "nar/a b+c=d~(e)!*'é.nar.zst",
  Body: body,
  ContentType: 'application/x-nix-nar',
  CacheControl: 'public',
  IfNoneMatch: '*',
  Metadata: { 'niche-writer': '0123' },
  ChecksumSHA256: digest.toString('base64'),
};

/** A client that records its requests and responds to each with `status`. */
async function open(
  config: S3ClientConfig,
  { status = 200, bucket = put.Bucket } = {},
): Promise<{ client: sdk.S3Client; direct: FastPut | null; sent: HttpRequest[] }> {
  const sent: HttpRequest[] = [];
  const client = new sdk.S3Client({
    region: 'eu-west-1',
    credentials: { accessKeyId: 'id', secretAccessKey: 'secret', sessionToken: 'token' },
    sha256: Sha256,
    maxAttempts: 1,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    ...config,
    requestHandler: {
      handle(request: HttpRequest) {
        sent.push(request);
        const answer = { statusCode: status, headers: {}, body: Readable.from([]) };
        return Promise.resolve({ response: new HttpResponse(answer) });
      },
    },
  });
  return { client, direct: await openFastPut(sdk, client, bucket), sent };
}

/** A bucket whose server responds with `answer`. */
function bucketOf(answer: (request: HttpRequest) => Partial<HttpResponse>): Bucket {
  const client = new sdk.S3Client({
    region: 'eu-west-1',
    credentials: { accessKeyId: 'id', secretAccessKey: 'secret' },
    maxAttempts: 1,
    requestHandler: {
      handle(request: HttpRequest) {
        const whole = { statusCode: 200, headers: {}, body: Readable.from([]), ...answer(request) };
        return Promise.resolve({ response: new HttpResponse(whole) });
      },
    },
  });
  return openS3Bucket(parseS3Url('s3://acme?region=eu-west-1'), { client });
}

/** Headers that only one of the two sends, or that depend on the time. */
const own = /^(?:amz-sdk-|authorization$|user-agent$|x-amz-user-agent$|x-amz-date$)/;

function told({ method, protocol, hostname, port, path, query, headers }: HttpRequest): object {
  const kept = Object.entries(headers).filter(([name]) => !own.test(name));
  // The SDK adds its operation's name, which no server needs.
  const asked = Object.keys(query).filter((name) => name !== 'x-id');
  return { method, protocol, hostname, port, path, asked, headers: Object.fromEntries(kept) };
}

describe('a small PUT without the SDK’s command', () => {
  for (const [where, config] of Object.entries<S3ClientConfig>({
    AWS: {},
    'AWS by dual stack': { useDualstackEndpoint: true },
    'an endpoint': { endpoint: 'https://s3.example:8443', forcePathStyle: true },
    'an endpoint with a path': { endpoint: 'http://127.0.0.1:9/s3/', forcePathStyle: true },
  })) {
    it(`sends the same request as the SDK's own command: ${where}`, async () => {
      const { client, direct, sent } = await open(config);
      assert.equal(await direct?.(put, digest), true);
      client.middlewareStack.add(
        (next) => (args) => {
          const { headers } = args.request as HttpRequest;
          headers['x-amz-content-sha256'] = digest.toString('hex');
          return next(args);
        },
        { step: 'build' },
      );
      await client.send(new sdk.PutObjectCommand(put));
      const [ours, theirs] = sent;
      assert.ok(ours && theirs);
      assert.deepEqual(told(ours), told(theirs));
      assert.match(ours.headers['authorization'] ?? '', /^AWS4-HMAC-SHA256 Credential=id\//);
      assert.deepEqual(ours.body, body);
    });
  }

  it('uses the clock that the SDK has set', async () => {
    const { client, direct, sent } = await open({});
    client.config.systemClockOffset = 7_200_000;
    await direct?.(put, digest);
    const date = sent[0]?.headers['x-amz-date'] ?? '';
    const hour = new Date(Date.now() + 7_200_000).toISOString().slice(0, 13).replace(/[-]/g, '');
    assert.equal(date.slice(0, 11), hour);
  });

  it('returns the result, and falls back to the SDK for unexplained refusals', async () => {
    for (const [status, outcome] of [
      [200, true],
      [301, false],
      [403, false],
      [404, false],
      [501, false],
      [507, false],
    ] as const) {
      const { direct } = await open({}, { status });
      assert.equal(await direct?.(put, digest), outcome);
    }
    for (const status of [408, 412, 429, 500, 503]) {
      const { direct } = await open({}, { status });
      const refused = await direct?.(put, digest).catch((error: unknown) => error);
      assert.ok(refused instanceof sdk.S3ServiceException);
      assert.equal(refused.$metadata.httpStatusCode, status);
    }
  });

  it('recognises its own object when the server failed before it responded', async () => {
    const methods: string[] = [];
    let writer = '';
    const bucket = bucketOf(({ method, headers }) => {
      methods.push(method);
      if (method === 'HEAD') {
        const found = {
          'content-length': '8',
          etag: '"1"',
          'last-modified': new Date(0).toUTCString(),
        };
        return { statusCode: 200, headers: { ...found, 'x-amz-meta-niche-writer': writer } };
      }
      writer ||= headers['x-amz-meta-niche-writer'] ?? '';
      return { statusCode: methods.length === 1 ? 408 : 412 };
    });
    assert.equal(await bucket.put('object', body, { ifAbsent: true }), 'created');
    assert.deepEqual(methods, ['PUT', 'PUT', 'HEAD']);
  });

  it('reports the server’s reason for a final refusal', async () => {
    for (const [statusCode, name, code] of [
      [501, 'NotImplemented', 'storage-unavailable'],
      [507, 'XMinioStorageFull', 'storage-full'],
    ] as const) {
      const said = `<Error><Code>${name}</Code><Message>Said by the server.</Message></Error>`;
      let requests = 0;
      const bucket = bucketOf(() => {
        requests += 1;
        return { statusCode, body: Readable.from([Buffer.from(said)]) };
      });
      await assert.rejects(bucket.put('object', body, { ifAbsent: true }), {
        code,
        message: new RegExp(`Said by the server\\. \\(${name}, ${statusCode}\\)$`),
      });
      assert.equal(requests, 2);
    }
  });

  it('is not used for buckets with their own sessions', async () => {
    const { direct } = await open({}, { bucket: 'acme--euw1-az1--x-s3' });
    assert.equal(direct, null);
  });
});

describe('the SHA-256 for signing requests', () => {
  it('matches node:crypto, with and without a secret', async () => {
    const bytes = fc.oneof(fc.string(), fc.uint8Array());
    await fc.assert(
      fc.asyncProperty(
        fc.option(bytes, { nil: undefined }),
        fc.array(bytes),
        async (key, parts) => {
          const hash = new Sha256(key);
          const other = key === undefined ? createHash('sha256') : createHmac('sha256', key);
          for (const part of parts) {
            hash.update(part);
            other.update(part);
          }
          assert.deepEqual(Buffer.from(await hash.digest()), other.digest());
        },
      ),
    );
  });

  it('can be read before the end, and reset', async () => {
    const hash = new Sha256();
    hash.update('a');
    const first = await hash.digest();
    hash.update('b');
    assert.notDeepEqual(await hash.digest(), first);
    hash.reset();
    hash.update('a');
    assert.deepEqual(await hash.digest(), first);
  });
});
