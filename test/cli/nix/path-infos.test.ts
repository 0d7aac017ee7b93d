import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';

import type { Nix } from '../../../cli/nix/nix.ts';
import { pathInfosOf } from '../../../cli/nix/path-infos.ts';
import { createQueue } from '../../../cli/watch/queue.ts';
import { NicheError } from '../../../core/errors.ts';
import { inventedPath } from '../../support/cache/paths.ts';
import { collect } from './collect.ts';
import { fakeNix } from './fake-nix.ts';

const names = (count: number, prefix = 'p'): string[] =>
  Array.from({ length: count }, (_, index) => inventedPath(`${prefix}${index}`));

/** Returns a fake nix whose store lacks `missing`. The closure of each path is itself and `common`. */
function storeOf(
  common: string,
  missing: readonly string[] = [],
): { nix: Nix; asked: readonly (readonly string[])[] } {
  const asked: string[][] = [];
  const nix = fakeNix((_, args) => {
    const paths = args.filter((arg) => arg.startsWith('/nix/store/'));
    asked.push(paths);
    const infos = [...new Set([...paths, common])].map((path) => [
      path,
      missing.includes(path) ? null : { narHash: `sha256:${'0'.repeat(52)}`, narSize: 100 },
    ]);
    return { stdout: Buffer.from(JSON.stringify(Object.fromEntries(infos))) };
  });
  return { nix, asked };
}

async function* all<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
  await Promise.resolve();
}

test('paths that arrive together share one query, and each is returned once', async () => {
  const [common = '', gone = '', ...paths] = names(1000);
  const { nix, asked } = storeOf(common, [gone]);
  const told = await collect(pathInfosOf(nix, all([...paths, gone, ...paths]), {}));
  assert.deepEqual(asked, [[...paths, gone]]);
  assert.deepEqual(
    told.flatMap(({ valid }) => valid.map(({ path }) => path)),
    [...paths, common],
  );
  assert.deepEqual(
    told.flatMap(({ invalid }) => invalid),
    [gone],
  );
});

test('paths that arrive during a query form the next one, without known paths', async () => {
  const [common = ''] = names(1);
  const { nix, asked } = storeOf(common);
  const queue = createQueue<string>();
  const [first, second] = [names(2, 'first'), names(2, 'second')];
  const told: string[][] = [];
  first.forEach(queue.push);
  for await (const { valid } of pathInfosOf(nix, queue.items, {})) {
    told.push(valid.map(({ path }) => path));
    if (told.length > 1) continue;
    for (const path of [common, ...first, ...second]) queue.push(path);
    await turn();
    queue.end();
  }
  assert.deepEqual(asked, [first, second]);
  assert.deepEqual(told, [[...first, common], second]);
});

test('a source error is thrown after earlier results; an aborted source just ends', async () => {
  const [common = '', path = ''] = names(2);
  for (const code of ['usage', 'aborted'] as const) {
    const { nix, asked } = storeOf(common);
    async function* failing(): AsyncGenerator<string> {
      yield path;
      await turn();
      throw new NicheError(code, 'injected');
    }
    const telling = collect(pathInfosOf(nix, failing(), {}));
    if (code === 'usage') await assert.rejects(telling, { code });
    else assert.equal((await telling).length, 1);
    assert.deepEqual(asked, [[path]]);
  }
});
