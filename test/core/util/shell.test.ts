import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

import fc from 'fast-check';

import { shellQuote, shellWord } from '../../../core/util/shell.ts';

test('quotes a word that contains shell syntax', () => {
  assert.equal(shellWord('file:///srv/cache'), 'file:///srv/cache');
  assert.equal(shellWord('s3://acme?a=1&b=2'), "'s3://acme?a=1&b=2'");
  assert.equal(shellWord(''), "''");
  assert.equal(shellWord("it's"), "'it'\\''s'");
});

test('a shell parses quoted words back unchanged', () => {
  // Process arguments cannot contain NUL.
  const text = fc.string({ unit: 'binary' }).map((each) => each.replaceAll('\0', ''));
  fc.assert(
    fc.property(fc.array(text, { minLength: 1, maxLength: 20 }), (texts) => {
      for (const quoted of [texts.map(shellWord), texts.map(shellQuote)]) {
        const script = `printf '%s\\0' ${quoted.join(' ')}`;
        const printed = execFileSync('/bin/sh', ['-c', script], { encoding: 'buffer' });
        assert.deepEqual(printed, Buffer.from(texts.map((each) => `${each}\0`).join('')));
      }
    }),
    { numRuns: 30 },
  );
});
