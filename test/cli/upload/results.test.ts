import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createResults, exitStatusOf, summarize } from '../../../cli/upload/results.ts';
import type { Results } from '../../../cli/upload/results.ts';
import { localTestPath } from '../../support/cache/bucket-cache.ts';

const one = await localTestPath('one');
const two = await localTestPath('two');

/** Returns results in which the cache has another build of `one`. */
function conflicting(): Results {
  const results = createResults();
  results.setStaged(one.info);
  results.setOutcome(one.path, { status: 'rejected', code: 'conflict', message: 'other contents' });
  return results;
}

test('another build that readers cannot install is a rejection', () => {
  const results = conflicting();
  assert.equal(exitStatusOf(results.all(), false), 76);
  assert.equal(summarize(results.all()), '1 path rejected');
});

test('another build that readers can install fails an upload only with --strict', () => {
  const results = conflicting();
  results.setAvailable(one.path);
  assert.equal(exitStatusOf(results.all(), false), 0);
  assert.equal(exitStatusOf(results.all(), true), 76);
  assert.equal(summarize(results.all()), '1 path built differently');
});

test('other rejections of the same upload still fail it', () => {
  const results = conflicting();
  results.setAvailable(one.path);
  results.setStaged(two.info);
  results.setOutcome(two.path, { status: 'rejected', code: 'ca-mismatch' });
  assert.equal(exitStatusOf(results.all(), false), 76);
  assert.equal(summarize(results.all()), '1 path rejected, 1 built differently');
});
