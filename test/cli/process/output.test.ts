import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';

import { openOutput, printable } from '../../../cli/process/output.ts';

test('a terminal gets no escape sequence, and a program gets every byte', () => {
  const forged = 'rejected: \u001b[2K\rpublished: \u009b31m\u202e\n\tnext\r\n';
  const safe = 'rejected: \u{fffd}[2K\u{fffd}published: \u{fffd}31m\u{fffd}\n\tnext\r\n';
  assert.equal(printable(forged), safe);
  for (const [isTTY, isForPeople, expected] of [
    [true, false, safe],
    [false, true, safe],
    [false, false, forged],
  ] as const) {
    const stream = Object.assign(new PassThrough(), { isTTY, columns: 80 });
    const output = openOutput(stream as unknown as NodeJS.WriteStream, {
      isForPeople,
      onFailed: assert.ifError,
    });
    output.write(forged);
    assert.equal(String(stream.read()), expected);
  }
});

test('other text is printed as it is', () => {
  const text = 'naïve “quotes” … 日本 👩‍💻\n';
  assert.equal(printable(text), text);
});
