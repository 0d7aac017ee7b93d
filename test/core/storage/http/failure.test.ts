import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgeHttp, mayHaveHappened } from '../../../../core/storage/http/failure.ts';

test('maps statuses to errors: denied or unavailable is never “missing”', () => {
  const judged = [200, 302, 401, 403, 404, 408, 409, 429, 500, 502, 503, 504, 507].map((status) => {
    const { kind, code } = judgeHttp({ status, message: '' });
    return [status, kind, code, mayHaveHappened({ status, message: '' })];
  });
  assert.deepEqual(judged, [
    [200, 'transient', 'storage-unavailable', true],
    [302, 'final', 'storage-unavailable', false],
    [401, 'final', 'storage-denied', false],
    [403, 'final', 'storage-denied', false],
    [404, 'final', 'storage-unavailable', false],
    [408, 'transient', 'storage-unavailable', true],
    [409, 'final', 'storage-unavailable', false],
    [429, 'throttled', 'storage-unavailable', false],
    [500, 'transient', 'storage-unavailable', true],
    [502, 'transient', 'storage-unavailable', true],
    [503, 'throttled', 'storage-unavailable', true],
    [504, 'transient', 'storage-unavailable', true],
    [507, 'final', 'storage-full', true],
  ]);
  assert.ok(mayHaveHappened({ message: 'no answer came' }));
});
