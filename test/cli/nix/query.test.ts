import assert from 'node:assert/strict';
import { test } from 'node:test';

import { queryPathInfos } from '../../../cli/nix/query.ts';
import { fakeNix } from './fake-nix.ts';

const path = '/nix/store/00000000000000000000000000000000-x';

test('passes a JSON format to a nix that requires one', async () => {
  const nix = fakeNix((_, args) =>
    args.includes('--json-format')
      ? { stdout: Buffer.from(JSON.stringify({ version: 2, info: { [path]: null } })) }
      : { status: 1, stderr: "error: '--json' without '--json-format' is not allowed" },
  );
  assert.deepEqual(await queryPathInfos(nix, [path]), { valid: [], invalid: [path] });
});

test('reports a path as invalid if it was garbage-collected during the query', async () => {
  const nix = fakeNix((tool) =>
    tool === 'nix' ? { status: 1, stderr: 'not valid' } : { stdout: Buffer.from(`${path}\n`) },
  );
  const infos = await queryPathInfos(nix, [path], { recursive: true });
  assert.deepEqual(infos, { valid: [], invalid: [path] });
});

test('a failure includes the end of nix’s output', async () => {
  const failing = fakeNix((tool) =>
    tool === 'nix' ? { status: 1, stderr: 'error: database disk image is malformed' } : {},
  );
  const expected = { code: 'nix-failed', message: /status 1[^]*disk image is malformed/u };
  await assert.rejects(queryPathInfos(failing, [path]), expected);
  await assert.rejects(queryPathInfos(failing, [path], { recursive: true }), expected);
  const garbled = fakeNix(() => ({ stdout: Buffer.from('not json') }));
  await assert.rejects(queryPathInfos(garbled, [path]), { code: 'malformed-path-info' });
});
