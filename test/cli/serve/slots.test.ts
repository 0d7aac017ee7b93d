import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';

import { createSlots } from '../../../cli/serve/slots.ts';

test('slots go to waiters in order, except to a client that has its share', async () => {
  const slots = createSlots({ total: 3, perClient: 2 });
  const started: string[] = [];
  const releases = new Map<string, () => void>();
  for (const name of ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1']) {
    void slots.acquire(name.slice(0, 1)).then((release) => {
      started.push(name);
      releases.set(name, release);
    });
  }
  const free = async (name: string): Promise<void> => {
    releases.get(name)?.();
    await setImmediate();
  };
  await setImmediate();
  assert.deepEqual(started.splice(0), ['a1', 'a2', 'b1']);
  await free('b1');
  assert.deepEqual(started.splice(0), ['b2']);
  await free('a1');
  assert.deepEqual(started.splice(0), ['a3']);
  await free('b2');
  assert.deepEqual(started.splice(0), ['c1']);
  await free('a2');
  assert.deepEqual(started.splice(0), ['a4']);
  for (const name of ['a3', 'a4', 'c1']) await free(name);
  assert.deepEqual(started, []);
});
