import assert from 'node:assert/strict';
import { test } from 'node:test';

import { hasCredentials } from '../../../core/util/url-credentials.ts';

test('a user or a password in a URL is found, even where the URL cannot be parsed', () => {
  for (const url of [
    'https://ci:hush@cache.example',
    'https://token@cache.example/path',
    'https://:hush@cache.example',
    'https://ci:@cache.example',
    'https://ci:hu/sh@cache.example',
    'https://ci:hu#sh@cache.example',
    'https://ci:hu?sh@cache.example',
    'https://ci:1234@cache.example',
    's3://AKIA:hush@acme?region=x',
    'ci:hush@cache.example',
  ]) {
    assert.ok(hasCredentials(url), url);
  }
});

test('other URLs have none', () => {
  for (const url of [
    'https://cache.example',
    'https://cache.example:8080/path@1',
    'cache.example:8080/path@1',
    'http://[::1]:80/path@1',
    'https://cache.example/user@host',
    'https://cache.example#acme-1:AA/@',
    's3://acme/a@b',
    'file:///srv/a@b',
    './a:b@c/d',
  ]) {
    assert.ok(!hasCredentials(url), url);
  }
});
