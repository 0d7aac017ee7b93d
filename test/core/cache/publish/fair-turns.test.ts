import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { startAnywhere, takeTurns } from '../../../../core/cache/publish/fair-turns.ts';

describe('turns', () => {
  it('yield one item of each owner at a time, until every owner has none left', () => {
    const groups = [['a1', 'a2', 'a3'], [], ['c1'], ['d1', 'd2']];
    assert.deepEqual([...takeTurns(groups)], ['a1', 'c1', 'd1', 'a2', 'd2', 'a3']);
    assert.deepEqual([...takeTurns([])], []);
  });

  it('read the items of an owner as its turns come', () => {
    let isEnough = false;
    const group = function* () {
      for (let n = 0; !isEnough; n += 1) yield n;
    };
    const taken: number[] = [];
    for (const n of takeTurns([group(), [7]])) {
      taken.push(n);
      isEnough = taken.length === 4;
    }
    assert.deepEqual(taken, [0, 7, 1, 2]);
  });

  it('begin at any item, and keep the order', () => {
    const items = ['a', 'b', 'c', 'd'];
    const starts = [0, 0.25, 0.6, 0.999].map((random) =>
      startAnywhere(items, () => random).join(''),
    );
    assert.deepEqual(starts, ['abcd', 'bcda', 'cdab', 'dabc']);
    assert.deepEqual(
      startAnywhere([], () => 0.5),
      [],
    );
  });
});
