import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createRecentPaths } from '../../../core/cache/presence.ts';

describe('recently found paths', () => {
  it('are forgotten after ten minutes', () => {
    let time = 0;
    const seen = createRecentPaths(() => new Date(time));
    assert.equal(seen.has('one'), false);
    seen.add('one');
    time += 9 * 60_000;
    seen.add('other');
    assert.deepEqual([seen.has('one'), seen.has('other')], [true, true]);
    time += 60_000;
    assert.deepEqual([seen.has('one'), seen.has('other')], [false, true]);
  });

  it('are limited in number, and include the newest', () => {
    const seen = createRecentPaths(() => new Date(0));
    const paths = Array.from({ length: 100_001 }, (_, index) => `path ${index}`);
    for (const path of paths) seen.add(path);
    assert.ok(paths.filter((path) => seen.has(path)).length <= 100_000);
    assert.ok(seen.has('path 100000'));
  });
});
