import assert from 'node:assert/strict';
import { it } from 'node:test';
import { openGoogleBucket } from '../../../../core/storage/google/driver.ts';
import {
  formatGoogleUrl,
  isGoogleItself,
  parseGoogleUrl,
} from '../../../../core/storage/google/url.ts';

it('parses and formats the URL of a bucket or a prefix', () => {
  for (const [url, prefix] of [
    ['gs://acme-cache', ''],
    ['gs://acme.example.org/some/prefix', 'some/prefix/'],
    ['gs://acme_cache?endpoint=http://127.0.0.1:4443', ''],
  ] as const) {
    const location = parseGoogleUrl(url);
    assert.equal(formatGoogleUrl(location), url);
    assert.equal(location.prefix, prefix);
  }
  const slashed = parseGoogleUrl('gs://acme-cache/?endpoint=http://127.0.0.1:4443/');
  assert.equal(formatGoogleUrl(slashed), 'gs://acme-cache?endpoint=http://127.0.0.1:4443');
});

it('refuses a URL without a bucket, and shows no secret', () => {
  for (const url of [
    'gs://',
    'gs:///prefix',
    'gs://ACME',
    'gs://ac',
    'gs://acme/a b',
    'gs://user:s3cret@acme',
    'gs://acme#s3cret',
    'gs://acme?key=s3cret',
    'gs://acme?endpoint=https://storage.googleapis.com/acme',
    'gs://acme?endpoint=https://user:s3cret@example.org',
    's3://acme',
  ]) {
    assert.throws(
      () => parseGoogleUrl(url),
      (error: Error & { code?: string }) =>
        error.code === 'invalid-url' && !error.message.includes('s3cret'),
      url,
    );
  }
});

it('sends the machine’s identity only to Google', () => {
  assert.ok(isGoogleItself('https://storage.googleapis.com'));
  assert.ok(isGoogleItself('https://storage-acme.p.googleapis.com'));
  assert.ok(!isGoogleItself('http://storage.googleapis.com'));
  assert.ok(!isGoogleItself('https://storage.googleapis.com.example.org'));
});

it('accepts a service account’s key and no other document', () => {
  const key = { type: 'service_account', client_email: 'a@b', private_key: 's3cret' };
  const open = (document: unknown) => () =>
    openGoogleBucket('gs://acme-cache', {
      credentials: { kind: 'google', serviceAccount: JSON.stringify(document) },
    });
  open(key)();
  for (const other of [
    { ...key, type: 'external_account' },
    { ...key, private_key: undefined },
    'text',
    null,
  ]) {
    assert.throws(
      open(other),
      (error: Error & { code?: string }) =>
        error.code === 'usage' && !error.message.includes('s3cret'),
    );
  }
  const credentials = { kind: 's3', accessKeyId: 'a', secretAccessKey: 'b' } as const;
  assert.throws(() => openGoogleBucket('gs://acme-cache', { credentials }), { code: 'usage' });
});

it('prints nothing when it opens a bucket, with or without a key', async (t) => {
  const warn = t.mock.method(console, 'warn', () => undefined);
  const document = { type: 'service_account', client_email: 'a@b', private_key: 's3cret' };
  const credentials = { kind: 'google', serviceAccount: JSON.stringify(document) } as const;
  const bucket = openGoogleBucket('gs://acme-cache', { credentials });
  await assert.rejects(bucket.head('x'), { code: 'storage-denied' });
  assert.equal(warn.mock.callCount(), 0);
});
