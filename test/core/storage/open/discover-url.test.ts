import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import fc from 'fast-check';

import { isNicheError } from '../../../../core/errors.ts';
import { storageUrlOf } from '../../../../core/storage/open/discover-url.ts';
import { refuses } from '../../../support/assert/refuses.ts';

const r2 = '0123456789abcdef0123456789abcdef';

describe('the storage behind a public URL', () => {
  for (const [url, storage] of [
    ['https://acme.s3.amazonaws.com', 's3://acme'],
    ['https://acme.s3.amazonaws.com/', 's3://acme'],
    ['https://ACME.S3.amazonaws.com/some/prefix/', 's3://acme/some/prefix'],
    ['https://acme.s3.eu-central-1.amazonaws.com', 's3://acme?region=eu-central-1'],
    ['https://acme.s3-eu-west-1.amazonaws.com', 's3://acme?region=eu-west-1'],
    ['https://acme.s3.dualstack.us-east-2.amazonaws.com', 's3://acme?region=us-east-2'],
    ['https://acme.s3-accelerate.amazonaws.com', 's3://acme'],
    ['http://acme.s3-website-us-west-2.amazonaws.com', 's3://acme?region=us-west-2'],
    ['http://acme.s3-website.eu-central-1.amazonaws.com', 's3://acme?region=eu-central-1'],
    ['https://acme.s3.us-gov-west-1.amazonaws.com', 's3://acme?region=us-gov-west-1'],
    ['https://acme.s3.cn-north-1.amazonaws.com.cn', 's3://acme?region=cn-north-1'],
    ['https://cache.acme.example.s3.amazonaws.com', 's3://cache.acme.example'],
    ['https://s3.amazonaws.com/acme', 's3://acme'],
    ['https://s3.eu-central-1.amazonaws.com/acme/p', 's3://acme/p?region=eu-central-1'],
    ['https://s3.eu-central-1.amazonaws.com/acme/acme', 's3://acme/acme?region=eu-central-1'],
    ['https://s3.us-west-004.backblazeb2.com/acme', 's3://acme?provider=b2&region=us-west-004'],
    [
      'https://acme.s3.eu-central-003.backblazeb2.com/p',
      's3://acme/p?provider=b2&region=eu-central-003',
    ],
    ['https://f004.backblazeb2.com/file/acme', 's3://acme?provider=b2&region=us-west-004'],
    ['https://f003.backblazeb2.com/file/acme/p', 's3://acme/p?provider=b2&region=eu-central-003'],
    ['https://s3.wasabisys.com/acme', 's3://acme?provider=wasabi'],
    ['https://acme.s3.eu-central-2.wasabisys.com', 's3://acme?provider=wasabi&region=eu-central-2'],
    [
      `https://${r2}.r2.cloudflarestorage.com/acme`,
      `s3://acme?provider=r2&endpoint=https://${r2}.r2.cloudflarestorage.com`,
    ],
    [
      `https://acme.${r2}.eu.r2.cloudflarestorage.com/p`,
      `s3://acme/p?provider=r2&endpoint=https://${r2}.eu.r2.cloudflarestorage.com`,
    ],
    ['https://acct.blob.core.windows.net/cache', 'azure://acct/cache'],
    ['https://acct.blob.core.windows.net/cache/a/b', 'azure://acct/cache/a/b'],
    [
      'https://acct.blob.core.chinacloudapi.cn/cache',
      'azure://acct/cache?endpoint=https://acct.blob.core.chinacloudapi.cn',
    ],
    ['https://storage.googleapis.com/acme', 'gs://acme'],
    ['https://acme.storage.googleapis.com/p', 'gs://acme/p'],
    ['https://storage.cloud.google.com/acme/p', 'gs://acme/p'],
    // Its niche.json specifies the storage.
    ['https://cache.acme.example', null],
    ['https://minio.acme.example:9000/acme', null],
    ['http://127.0.0.1:9000/acme?x=1', null],
    ['https://pub-0123.r2.dev', null],
    ['https://f099.backblazeb2.com/file/acme', null],
    ['https://s3.amazonaws.com.acme.example/x', null],
  ] as const) {
    test(url, () => {
      assert.equal(storageUrlOf(url), storage);
    });
  }
});

describe('invalid URLs are refused, with a hint', () => {
  for (const [url, message, hint] of [
    [
      'https://acme.s3.amazonaws.com/acme',
      /"acme" appears twice/,
      /write https:\/\/acme\.s3\.amazonaws\.com$/,
    ],
    ['https://acme.storage.googleapis.com/acme/p', /appears twice/, /googleapis\.com\/p$/],
    ['https://s3.us-east-1.amazonaws.com', /the bucket is missing/, /amazonaws\.com\/<bucket>$/],
    ['https://s3.us-west-004.backblazeb2.com/', /the bucket is missing/, /<bucket>$/],
    ['https://f004.backblazeb2.com/file', /the bucket is missing/, /<bucket>$/],
    [
      'https://f004.backblazeb2.com/acme',
      /expected https:\/\/f004\.backblazeb2\.com\/file\/<bucket>/,
      /^$/,
    ],
    ['https://acct.blob.core.windows.net', /the container is missing/, /<container>$/],
    ['https://storage.googleapis.com', /the bucket is missing/, /<bucket>$/],
    ['https://s3.console.aws.amazon.com/s3/buckets/acme', /a web console/, /s3:\/\/bucket/],
    ['https://console.cloud.google.com/storage/browser/acme', /a web console/, /gs:\/\/bucket/],
    [
      'https://acme.s3.amazonaws.com/nix-cache-info',
      /expected the cache, got its file/,
      /amazonaws\.com$/,
    ],
    ['https://acme.s3.amazonaws.com/p/niche.json', /expected the cache, got its file/, /\/p$/],
    ['https://acme.s3.amazonaws.com/a//b', /plain segments/, /^$/],
    ['https://acme.s3.amazonaws.com/a%2fb', /plain segments/, /^$/],
    [
      'https://acct.blob.core.windows.net/cache?sv=1&sig=SECRET',
      /with a query/,
      /in the environment/,
    ],
    [
      'https://key:SECRET@acme.s3.amazonaws.com',
      /must not contain credentials/,
      /in the environment/,
    ],
    ['s3://acme', /expected https:\/\/host\/path/, /^$/],
    ['https://', /expected https:\/\/host\/path/, /^$/],
  ] as const) {
    test(url.replaceAll('SECRET', '…'), () => {
      assert.throws(
        () => storageUrlOf(url),
        (error) => {
          assert.ok(isNicheError(error, 'invalid-url'), String(error));
          assert.match(error.message, message);
          assert.match(error.hint ?? '', hint);
          assert.doesNotMatch(`${error.message}${error.hint ?? ''}`, /SECRET|\n/);
          return true;
        },
      );
    });
  }

  test('any text gives a result or an “invalid-url” error', () => {
    const part = fc.stringMatching(/^[a-z0-9.:/?#@%-]{0,20}$/);
    const host = fc.constantFrom('s3.amazonaws.com', 'storage.googleapis.com', 'x.example', '');
    fc.assert(
      fc.property(part, host, part, (before, middle, after) => {
        try {
          storageUrlOf(`https://${before}${middle}${after}`);
        } catch (error) {
          assert.ok(isNicheError(error, 'invalid-url'), String(error));
        }
      }),
    );
  });

  test('only HTTP URLs are examined', () => {
    refuses('invalid-url', () => storageUrlOf('ftp://acme.s3.amazonaws.com'));
  });
});
