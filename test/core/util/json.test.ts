import assert from 'node:assert/strict';
import { it } from 'node:test';
import { maxJsonDepth } from '../../../core/limits.ts';
import { parseJson } from '../../../core/util/json.ts';

const nested = (levels: number, open = '[', close = ']'): string =>
  open.repeat(levels) + close.repeat(levels);

it('parses JSON', () => {
  for (const text of [
    'null',
    '-1.5e3',
    '"[[\\"{"',
    ' [ {"a\\\\":["]"]} , true ] ',
    '{"__proto__":1}',
  ]) {
    assert.deepEqual(parseJson(text), JSON.parse(text), text);
  }
});

it('refuses text that is not JSON', () => {
  for (const text of ['', '[', '"\\', '"[', '{"a"}', ']'.repeat(1000), '1 2']) {
    assert.throws(() => parseJson(text), SyntaxError, text);
  }
});

it('bounds the nesting of arrays and objects', () => {
  assert.deepEqual(parseJson(nested(maxJsonDepth)), JSON.parse(nested(maxJsonDepth)));
  const tooDeep = [
    nested(maxJsonDepth + 1),
    nested(200_000),
    `{"a":${nested(maxJsonDepth)}}`,
    `${'{"a":'.repeat(maxJsonDepth + 1)}1${'}'.repeat(maxJsonDepth + 1)}`,
    `[[],"\\"",${nested(maxJsonDepth)}]`,
  ];
  for (const text of tooDeep) {
    assert.throws(() => parseJson(text), /more than 256 levels/, text.slice(0, 40));
  }
});

it('counts brackets that are closed again, or in strings, not as levels', () => {
  const wide = `[${'[],{},'.repeat(10_000)}"${'['.repeat(10_000)}\\"${'{'.repeat(10_000)}"]`;
  assert.deepEqual(parseJson(wide), JSON.parse(wide));
});
