import assert from 'node:assert/strict';
import { test } from 'node:test';

import { describeError } from '../../../cli/ui/describe-error.ts';
import { NicheError } from '../../../core/errors.ts';

test('an error of niche is printed with its message and hint', () => {
  const error = new NicheError('usage', 'no cache given');
  assert.deepEqual(describeError(error, {}), ['niche: no cache given']);
  const hinted = new NicheError('usage', 'no cache given', { hint: 'pass -u URL' });
  const lines = ['niche: upload failed: no cache given', 'hint: pass -u URL'];
  assert.deepEqual(describeError(hinted, {}, 'upload failed'), lines);
});

test('any other error is printed as a bug to report', () => {
  assert.deepEqual(describeError(new TypeError('x is not a function'), {}), [
    'niche: internal error: x is not a function',
    'hint: report this bug with the output of NICHE_DEBUG=1',
  ]);
  assert.equal(describeError('thrown', { NICHE_DEBUG: '' }).length, 2);
});

test('NICHE_DEBUG adds the stack trace and the causes', () => {
  const error = new NicheError('usage', 'no cache given', { cause: new Error('the cause') });
  const text = describeError(error, { NICHE_DEBUG: '1' }).join('\n');
  assert.match(text, /describe-error\.test\.ts:\d+/);
  assert.match(text, /the cause/);
});
