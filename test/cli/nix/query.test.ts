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
  assert.deepEqual(await queryPathInfos(nix, [path]), {
    valid: [],
    invalid: [path],
    unreadable: [],
  });
});

test('reports a path as invalid if it was garbage-collected during the query', async () => {
  const nix = fakeNix((tool) =>
    tool === 'nix' ? { status: 1, stderr: 'not valid' } : { stdout: Buffer.from(`${path}\n`) },
  );
  const infos = await queryPathInfos(nix, [path], { recursive: true });
  assert.deepEqual(infos, { valid: [], invalid: [path], unreadable: [] });
});

test('a malformed info fails only its own path', async () => {
  const [good, bad] = [`${path}-good`, `${path}-bad`];
  const infos = {
    [good]: { narHash: `sha256:${'0'.repeat(52)}`, narSize: 120 },
    [bad]: { narHash: 'sha256:x', narSize: 120 },
  };
  const nix = fakeNix(() => ({ stdout: Buffer.from(JSON.stringify(infos)) }));
  const { valid, unreadable } = await queryPathInfos(nix, [good, bad]);
  assert.deepEqual(
    [valid, unreadable].map((found) => found.map((each) => each.path)),
    [[good], [bad]],
  );
});

test('queries derivations apart, so that an old nix does not take their outputs', async () => {
  const drv = `${path}.drv`;
  const asked: string[][] = [];
  const nix = fakeNix((_, args) => {
    asked.push(args.filter((arg) => /^--deriv|^\/nix/.test(arg)));
    return { stdout: Buffer.from('{}') };
  });
  await queryPathInfos(nix, [drv, path]);
  assert.deepEqual(asked, [[path], ['--derivation', drv]]);
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
