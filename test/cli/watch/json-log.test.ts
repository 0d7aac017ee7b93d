import assert from 'node:assert/strict';
import { test } from 'node:test';

import { followLog } from '../../../cli/watch/json-log.ts';

const drvPath = '/nix/store/l84a9irsfzrz0pia8zajwg84hh0ddbj8-leaf.drv';

/** Lines as Nix 2.34.8 writes them. */
function started(id: string, path = drvPath): string {
  return `{"action":"start","fields":["${path}","",1,1],"id":${id},"level":3,"parent":0,"text":"building '${path}'","type":105}`;
}
const stopped = (id: string): string => `{"action":"stop","id":${id}}`;

test('returns a derivation when its build ends', () => {
  const log = followLog();
  const progress = '{"action":"result","fields":[0,2,1,0],"id":7,"type":105}';
  const copy = '{"action":"start","id":8,"level":4,"parent":0,"text":"copying","type":0}';
  for (const line of [started('7'), progress, copy, stopped('8')]) {
    assert.equal(log.read(line), null);
  }
  assert.deepEqual(log.unfinished(), [drvPath]);
  assert.equal(log.read(stopped('7')), drvPath);
  assert.equal(log.read(stopped('7')), null);
  assert.deepEqual(log.unfinished(), []);
});

test('tells large activity numbers apart', () => {
  const log = followLog();
  const other = drvPath.replace('leaf', 'top');
  log.read(started('18014398509481985'));
  log.read(started('18014398509481984', other));
  assert.equal(log.read(stopped('18014398509481985')), drvPath);
  assert.equal(log.read(stopped('18014398509481984')), other);
});

test('a builder cannot end or start a build in the log', () => {
  const log = followLog();
  log.read(started('7'));
  const output = JSON.stringify({ action: 'result', fields: [stopped('7')], id: 7, type: 101 });
  assert.equal(log.read(output), null);
  assert.deepEqual(log.unfinished(), [drvPath]);
});

test('ignores lines that it cannot read', () => {
  const log = followLog();
  const lines = [
    '',
    '{',
    '{"action":"start","id":1,',
    'null',
    '{"action":"start","id":1,"type":105}',
  ];
  for (const line of lines) assert.equal(log.read(line), null);
  assert.deepEqual(log.unfinished(), []);
});
