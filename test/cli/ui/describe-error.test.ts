import assert from 'node:assert/strict';
import { test } from 'node:test';

import { describeError } from '../../../cli/ui/describe-error.ts';
import { NicheError } from '../../../core/errors.ts';

test('an error of niche: its message, and what to do next', () => {
  assert.deepEqual(describeError(new NicheError('usage', 'which cache?'), {}), ['which cache?']);
  const hinted = new NicheError('usage', 'which cache?', { hint: 'name it' });
  assert.deepEqual(describeError(hinted, {}), ['which cache?', 'name it']);
});

test('anything else is a bug: one line, which says how to report it', () => {
  assert.deepEqual(describeError(new TypeError('x is not a function'), {}), [
    'a bug in niche: x is not a function; please report it with what NICHE_DEBUG=1 prints',
  ]);
  assert.equal(describeError('thrown', { NICHE_DEBUG: '' }).length, 1);
});

test('with NICHE_DEBUG, also where it was thrown and its causes', () => {
  const error = new NicheError('usage', 'which cache?', { cause: new Error('the cause') });
  const text = describeError(error, { NICHE_DEBUG: '1' }).join('\n');
  assert.match(text, /describe-error\.test\.ts:\d+/);
  assert.match(text, /the cause/);
});
