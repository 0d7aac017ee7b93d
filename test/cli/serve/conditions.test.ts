import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { etagOf, isUnchanged, parseRange } from '../../../cli/serve/conditions.ts';

const info = { key: 'nar/x', size: 100, modified: new Date(0), etag: 'a-b' };
const empty = { ...info, size: 0 };

describe('conditions of a request', () => {
  test('quotes an ETag once', () => {
    assert.equal(etagOf(info), '"a-b"');
    assert.equal(etagOf({ ...info, etag: '"a"' }), '"a"');
    assert.equal(etagOf({ ...info, etag: 'W/"a"' }), 'W/"a"');
  });

  test('accepts lists, weak ETags and * in If-None-Match', () => {
    for (const text of ['"a-b"', 'W/"a-b"', '"x", "a-b"', '*', ' * ']) {
      assert.equal(isUnchanged(text, info), true, text);
    }
    for (const text of [undefined, '', '"x"', 'a-b', '"a-b']) {
      assert.equal(isUnchanged(text, info), false, text);
    }
  });

  const satisfied: readonly (readonly [string, number, number])[] = [
    ['bytes=0-0', 0, 1],
    ['bytes=0-99', 0, 100],
    ['bytes=10-', 10, 100],
    ['bytes=90-1000', 90, 100],
    ['bytes=-1', 99, 100],
    ['bytes=-1000', 0, 100],
    ['Bytes= 5-6 ', 5, 7],
    ['bytes=99-999999999999999', 99, 100],
  ];
  for (const [range, start, end] of satisfied) {
    test(`satisfies ${range}`, () => {
      assert.deepEqual(parseRange(range, undefined, info), { start, end });
    });
  }

  for (const range of ['bytes=100-', 'bytes=100-200', 'bytes=-0']) {
    test(`cannot satisfy ${range}`, () => {
      assert.equal(parseRange(range, undefined, info), 'unsatisfiable');
    });
  }

  test('cannot satisfy a range of an empty object', () => {
    assert.equal(parseRange('bytes=0-', undefined, empty), 'unsatisfiable');
    assert.equal(parseRange('bytes=-5', undefined, empty), 'unsatisfiable');
  });

  for (const range of [
    undefined,
    'bytes=0-1,3-4',
    'bytes=5-4',
    'bytes=-',
    'bytes=a-b',
    'bytes=1.5-3',
    'bytes=0x1-2',
    'lines=0-1',
    'bytes=9999999999999999-',
    '',
  ]) {
    test(`ignores ${String(range)}`, () => {
      assert.equal(parseRange(range, undefined, info), null);
    });
  }

  test('accepts only the current ETag in If-Range', () => {
    assert.deepEqual(parseRange('bytes=0-0', '"a-b"', info), { start: 0, end: 1 });
    assert.equal(parseRange('bytes=0-0', '"x"', info), null);
    assert.equal(parseRange('bytes=0-0', 'W/"a-b"', info), null);
    assert.equal(parseRange('bytes=0-0', 'Thu, 01 Jan 1970 00:00:00 GMT', info), null);
  });
});
