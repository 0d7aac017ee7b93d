import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openBucket } from '../../../../core/storage/open/open-bucket.ts';
import { explainS3Error } from '../../../../core/storage/s3/errors.ts';
import {
  formatS3Url,
  parseS3Url,
  adaptS3Roots,
  s3Endpoint,
  s3PublicUrl,
} from '../../../../core/storage/s3/url.ts';
import { isNicheError } from '../../../../core/errors.ts';

describe('s3:// URLs', () => {
  it('use the endpoint that the user specifies', () => {
    const recorded = 's3://acme?endpoint=https://minio.example.org&provider=minio';
    const inside = 's3://acme?endpoint=http://10.0.0.7:9000';
    const own = 's3://acme?endpoint=http://10.0.0.7:9000&provider=minio';
    for (const [named, root, storage, expected] of [
      [inside, recorded, own, own],
      [
        `${inside}&profile=ci`,
        's3://acme-private?endpoint=https://minio.example.org&provider=minio',
        's3://acme?endpoint=http://10.0.0.7:9000&profile=ci&provider=minio',
        's3://acme-private?endpoint=http://10.0.0.7:9000&profile=ci&provider=minio',
      ],
      [
        inside,
        's3://elsewhere?endpoint=https://other.example',
        own,
        's3://elsewhere?endpoint=https://other.example',
      ],
      [inside, 'gs://acme-private', recorded, 'gs://acme-private'],
    ] as const) {
      assert.deepEqual(
        adaptS3Roots(named, { storage: recorded, staging: recorded, private: root }),
        {
          storage,
          staging: storage,
          private: expected,
        },
      );
    }
  });

  it('specify a bucket, a prefix and a location', () => {
    for (const [url, expected, endpoint, readAt] of [
      ['s3://acme', 's3://acme', undefined, 'https://acme.s3.amazonaws.com'],
      [
        's3://acme/a/b/?region=eu-central-1',
        's3://acme/a/b?region=eu-central-1',
        undefined,
        'https://acme.s3.eu-central-1.amazonaws.com/a/b',
      ],
      [
        's3://a.b?region=eu-west-1',
        's3://a.b?region=eu-west-1',
        undefined,
        'https://s3.eu-west-1.amazonaws.com/a.b',
      ],
      [
        's3://acme?endpoint=http://127.0.0.1:9000&provider=minio',
        's3://acme?endpoint=http://127.0.0.1:9000&provider=minio',
        'http://127.0.0.1:9000',
        'http://127.0.0.1:9000/acme',
      ],
      [
        's3://acme?endpoint=minio.example.org&scheme=http&profile=x',
        's3://acme?endpoint=http://minio.example.org&profile=x',
        'http://minio.example.org',
        'http://minio.example.org/acme',
      ],
      [
        's3://acme?provider=b2&region=us-west-004',
        's3://acme?region=us-west-004&provider=b2',
        'https://s3.us-west-004.backblazeb2.com',
        'https://s3.us-west-004.backblazeb2.com/acme',
      ],
      [
        's3://acme?provider=wasabi',
        's3://acme?provider=wasabi',
        'https://s3.us-east-1.wasabisys.com',
        'https://s3.us-east-1.wasabisys.com/acme',
      ],
      [
        's3://acme?provider=r2&endpoint=https://0123.r2.cloudflarestorage.com',
        's3://acme?endpoint=https://0123.r2.cloudflarestorage.com&provider=r2',
        'https://0123.r2.cloudflarestorage.com',
        null,
      ],
    ] as const) {
      const location = parseS3Url(url);
      assert.equal(formatS3Url(location), expected, url);
      assert.deepEqual(parseS3Url(expected), location, url);
      assert.equal(s3Endpoint(location), endpoint, url);
      assert.equal(s3PublicUrl(location), readAt, url);
    }
  });

  it('are refused with missing, extra or repeated parts', () => {
    for (const url of [
      's3://',
      's3:///prefix',
      's3://a',
      's3://acme_x',
      's3://acme/a%20b',
      's3://acme#x',
      's3://acme?regoin=eu-west-1',
      's3://acme?region=eu/west',
      's3://acme?region=a&region=b',
      's3://acme?provider=acme',
      's3://acme?provider=b2',
      's3://acme?provider=r2',
      's3://acme?conditional=maybe',
      's3://acme?endpoint=ftp://host',
      's3://acme?endpoint=https://host/path',
      's3://acme?endpoint=https://host/acme',
      's3://acme?endpoint=https://acme.host',
    ]) {
      assert.throws(() => openBucket(url), { code: 'invalid-url' }, url);
    }
  });

  it('contain no credentials, and no message shows any', () => {
    assert.throws(
      () => openBucket('s3://key:s3cret@acme'),
      (error) => isNicheError(error, 'invalid-url') && !error.message.includes('s3cret'),
    );
    assert.throws(
      () => openBucket('s3://acme', { credentials: { kind: 'azure', sas: 's3cret' } }),
      (error) => isNicheError(error, 'usage') && !error.message.includes('s3cret'),
    );
  });

  it('specify the capabilities of a bucket', () => {
    const { capabilities } = openBucket('s3://acme');
    assert.ok(capabilities.conditionalPut && capabilities.conditionalComplete);
    for (const url of ['s3://acme?provider=b2&region=x', 's3://acme?conditional=no']) {
      assert.ok(!openBucket(url).capabilities.conditionalPut, url);
    }
    const ceph = openBucket('s3://acme?provider=ceph&endpoint=http://ceph').capabilities;
    assert.ok(ceph.conditionalPut && !ceph.conditionalComplete);
    assert.ok(openBucket('s3://acme?provider=wasabi&conditional=yes').capabilities.conditionalPut);
  });
});

describe('an S3 error message', () => {
  const location = parseS3Url('s3://acme?region=us-east-1');

  function explain(error: object): ReturnType<typeof explainS3Error> {
    return explainS3Error(Object.assign(new Error(), error), 'reading "x"', location);
  }

  function answer(name: string, statusCode: number, headers = {}, message = name): object {
    return { name, message, $metadata: {}, $response: { statusCode, headers } };
  }

  it('has one line and a hint', () => {
    for (const [error, kind, code, message, hint] of [
      [answer('AccessDenied', 403), 'final', 'storage-denied', /access denied/, /permissions/],
      [answer('', 403), 'final', 'storage-denied', /access denied/, /permissions/],
      [answer('InvalidAccessKeyId', 403), 'final', 'storage-denied', /access key/, /AWS_ACCESS/],
      [answer('SignatureDoesNotMatch', 403), 'final', 'storage-denied', /secret/, /AWS_SECRET/],
      [answer('ExpiredToken', 400), 'final', 'storage-denied', /expired/, /sso/],
      [answer('RequestTimeTooSkewed', 403), 'transient', 'storage-denied', /clock/, /clock/],
      [
        answer('Unknown', 403, { date: new Date(Date.now() - 3_600_000).toUTCString() }),
        'transient',
        'storage-denied',
        /clock/,
        /clock/,
      ],
      [answer('Unknown', 400), 'final', 'storage-unavailable', /without a reason/, /region/],
      [answer('NoSuchBucket', 404), 'final', 'storage-unavailable', /no such bucket/, /--create/],
      [
        answer('PermanentRedirect', 301, { 'x-amz-bucket-region': 'eu-west-1' }),
        'final',
        'storage-unavailable',
        /not in the region us-east-1 but in eu-west-1/,
        /s3:\/\/acme\?region=eu-west-1/,
      ],
      [
        answer(
          'AuthorizationHeaderMalformed',
          400,
          {},
          "'us-east-1' is wrong; expecting 'eu-west-1'",
        ),
        'final',
        'storage-unavailable',
        /but in eu-west-1/,
        /region=eu-west-1/,
      ],
      [answer('SlowDown', 503), 'throttled', 'storage-unavailable', /throttling/, /later/],
      [answer('', 429), 'throttled', 'storage-unavailable', /throttling/, /later/],
      [answer('NotImplemented', 501), 'final', 'storage-unavailable', /501/, /provider=b2/],
      [answer('InvalidArgument', 400), 'final', 'storage-unavailable', /InvalidArgument/, null],
      [answer('InvalidObjectState', 403), 'final', 'storage-unavailable', /archive/, null],
      [
        answer('InvalidRequest', 400, {}, 'stored using a form of Server Side Encryption'),
        'final',
        'storage-unavailable',
        /Server Side Encryption/,
        null,
      ],
      [answer('BadDigest', 400), 'transient', 'storage-integrity', /declared/, null],
      [answer('InternalError', 500), 'transient', 'storage-unavailable', /500/, null],
      [answer('XMinioStorageFull', 507), 'final', 'storage-full', /507/, null],
      [
        { name: 'CredentialsProviderError' },
        'final',
        'storage-denied',
        /no credentials/,
        /AWS_ACCESS_KEY_ID/,
      ],
      [{ message: 'Region is missing' }, 'final', 'invalid-url', /no region/, /region=/],
      [{ code: 'ECONNREFUSED' }, 'transient', 'storage-unavailable', /ECONNREFUSED/, /running/],
      [{ code: 'ENOTFOUND' }, 'transient', 'storage-unavailable', /ENOTFOUND/, /host name/],
      [
        { code: 'DEPTH_ZERO_SELF_SIGNED_CERT', message: 'self-signed certificate' },
        'final',
        'storage-unavailable',
        /does not trust/,
        /NODE_EXTRA_CA_CERTS/,
      ],
      [{ message: `page\n${'x'.repeat(500)}` }, 'transient', 'storage-unavailable', /page/, null],
    ] as const) {
      const failure = explain(error);
      assert.equal(failure.kind, kind, JSON.stringify(error));
      assert.ok(isNicheError(failure.error, code), JSON.stringify(error));
      assert.match(failure.error.message, message);
      assert.ok(!/[\r\n]/.test(failure.error.message));
      if (hint !== null) assert.match(failure.error.hint ?? '', hint);
    }
  });

  it('includes the retry delay', () => {
    const { retryAfterMs } = explain(answer('SlowDown', 503, { 'retry-after': '7' }));
    assert.equal(retryAfterMs, 7000);
    assert.equal(explain(answer('SlowDown', 503)).retryAfterMs, undefined);
  });
});
