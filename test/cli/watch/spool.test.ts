import assert from 'node:assert/strict';
import { appendFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { readSpool } from '../../../cli/watch/spool.ts';
import { collect } from '../nix/collect.ts';
import { temporaryFolder } from '../nix/temporary-folder.ts';

test('yields entries as they are appended, even in pieces, and all before it ends', async (t) => {
  const file = path.join(temporaryFolder(t), 'spool');
  writeFileSync(file, 'a.drv 1\n');
  const ended = new AbortController();
  const entries = readSpool(file, { ended: ended.signal, pollMs: 5 });
  assert.deepEqual((await entries.next()).value, { drvPath: 'a.drv', outPath: '1' });
  appendFileSync(file, 'b.d');
  const next = entries.next();
  appendFileSync(file, 'rv\n\nc.drv 3\nhalf');
  assert.deepEqual((await next).value, { drvPath: 'b.drv', outPath: null });
  assert.deepEqual((await entries.next()).value, { drvPath: 'c.drv', outPath: '3' });
  ended.abort();
  appendFileSync(file, ' line\nlost half');
  assert.deepEqual((await entries.next()).value, { drvPath: 'half', outPath: 'line' });
  assert.equal((await entries.next()).done, true);
});

test('yields entries larger together than one read', async (t) => {
  const file = path.join(temporaryFolder(t), 'spool');
  const lines = Array.from({ length: 5000 }, (_, n) => `${n}.drv ${'o'.repeat(n % 90)}${n}`);
  writeFileSync(file, `${lines.join('\n')}\n`);
  const entries = await collect(readSpool(file, { ended: AbortSignal.abort() }));
  assert.deepEqual(
    entries.map(({ drvPath, outPath }) => `${drvPath} ${outPath}`),
    lines,
  );
});
