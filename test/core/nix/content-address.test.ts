import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatContentAddress, parseContentAddress } from '../../../core/nix/content-address.ts';
import { contentAddresses } from '../../support/lab/nix-values.ts';
import { refuses } from '../../support/assert/refuses.ts';

const sha1 = 'kpcd173cq987hw957sx6m0868wv3x6d9';
const sha256 = '1lr187v6dck1rjh2j6svpikcfz53wyl3qrlcbb405zlh13x0khhh';

test('parses every content address that it formats', () => {
  fc.assert(
    fc.property(contentAddresses, (text) => {
      assert.equal(formatContentAddress(parseContentAddress(text)), text);
    }),
  );
});

test('the prefix determines the method', () => {
  assert.equal(parseContentAddress(`text:sha256:${sha256}`).method, 'text');
  assert.equal(parseContentAddress(`fixed:sha256:${sha256}`).method, 'flat');
  assert.equal(parseContentAddress(`fixed:r:sha256:${sha256}`).method, 'nar');
  assert.equal(parseContentAddress(`fixed:git:sha256:${sha256}`).method, 'git');
  assert.equal(parseContentAddress(`fixed:git:sha1:${sha1}`).method, 'git');
  assert.equal(parseContentAddress(`fixed:r:blake3:${sha256}`).hash.algorithm, 'blake3');
});

test('other methods and algorithms are unsupported', () => {
  for (const text of [
    '',
    'sha256',
    `nonsense:sha256:${sha256}`,
    `text:r:sha256:${sha256}`,
    'text:sha1:kpcd173cq987hw957sx6m0868wv3x6d9',
    'text:somevalue:whocares',
    `text:blake3:${sha256}`,
    `fixed:git:blake3:${sha256}`,
    `fixed:git:md5:${'0'.repeat(26)}`,
    `fixed:git:r:sha256:${sha256}`,
    `fixed:git::${sha256}`,
    `fixed:constructor:${sha256}`,
    'fixed:r:sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=',
    ` text:sha256:${sha256}`,
  ]) {
    refuses('unsupported-ca', () => parseContentAddress(text), text);
  }
});

test('a malformed hash is refused', () => {
  for (const text of ['text:sha256:', `fixed:r:sha256:${sha256}\n`, `fixed:md5:${sha256}`]) {
    refuses('malformed-hash', () => parseContentAddress(text), text);
  }
});
