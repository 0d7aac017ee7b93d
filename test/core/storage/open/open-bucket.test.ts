import assert from 'node:assert/strict';
import { it } from 'node:test';
import { openBucket } from '../../../../core/storage/open/open-bucket.ts';

it('opens a directory by its URL', () => {
  for (const [url, expected] of [
    ['file:///srv/cache', 'file:///srv/cache'],
    ['file:///srv/cache/', 'file:///srv/cache'],
    ['file://localhost/srv/cache', 'file:///srv/cache'],
    ['FILE:///srv/cache', 'file:///srv/cache'],
    ['file:///srv/with%20space', 'file:///srv/with%20space'],
    ['file:///srv/50%25', 'file:///srv/50%25'],
    ['file:///', 'file:///'],
  ] as const) {
    assert.equal(openBucket(url).url, expected, url);
  }
});

it('refuses every other URL, and lists the supported ones', () => {
  for (const url of [
    '',
    'srv/cache',
    '/srv/cache',
    'file:srv/cache',
    'file:/srv/cache',
    'https://example.org/cache',
    'ftp://example.org/cache',
  ]) {
    assert.throws(() => openBucket(url), { code: 'invalid-url', message: /file:\/\// }, url);
  }
});

it('refuses a file URL that is not exactly a local directory', () => {
  for (const url of [
    'file://example.org/srv/cache',
    'file:///srv/cache?x=1',
    'file:///srv/cache#x',
    'file:///srv%2Fcache',
    'file:///srv/%00cache',
    'file:///srv/%ff',
  ]) {
    assert.throws(() => openBucket(url), { code: 'invalid-url' }, url);
  }
});

it('keeps a password or a token out of the message', () => {
  for (const url of ['https://user:s3cret@example.org/x', 'https://example.org/x?token=s3cret']) {
    assert.throws(
      () => openBucket(url),
      (error: Error) => !error.message.includes('s3cret') && error.message.includes('example.org'),
    );
  }
});
