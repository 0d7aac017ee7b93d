import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { debugKey } from '../../../../core/cache/layout.ts';
import { blockPath } from '../../../../core/cache/withdraw/block.ts';
import { parseNarInfo } from '../../../../core/nix/narinfo.ts';
import type { NarNode } from '../../../../core/nix/nar-writer.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { claimOf, inventedPath, testPath, treeNar } from '../../../support/cache/paths.ts';
import type { TestPath } from '../../../support/cache/paths.ts';

const rest = '623eda209c26a59b1a8638ff7752f6b945c26b';
const key = debugKey(`02${rest}`);
const record = { at: '2026-01-01T00:00:00.000Z', why: 'a test' };

/** Returns a path with one debug file. */
async function debugPath(name: string, references: readonly TestPath[] = []): Promise<TestPath> {
  const bytes = Buffer.from([name, ...references.map(({ info }) => info.path)].join(' '));
  const file: NarNode = {
    type: 'regular',
    executable: false,
    size: bytes.length,
    contents: () => bytes,
  };
  const parts = ['lib', 'debug', '.build-id', '02', `${rest}.debug`];
  const tree = parts.reduceRight<NarNode>(
    (node, part) => ({ type: 'directory', entries: () => [[part, node]] }),
    file,
  );
  const nar = await treeNar(tree);
  const claim = claimOf(inventedPath(name), nar);
  return { info: { ...claim, references: references.map(({ info }) => info.path) }, nar };
}

function textOf(cache: TestCache, at: string): string | undefined {
  const object = cache.publicStore.objects.get(at);
  return object && Buffer.from(object.bytes).toString();
}

function linkOf(cache: TestCache, { info }: TestPath): string {
  const { url } = parseNarInfo(textOf(cache, `${storeHash(info.path)}.narinfo`) ?? '');
  return JSON.stringify({ archive: `../${url}`, member: `lib/debug/.build-id/02/${rest}.debug` });
}

describe('a debug file', () => {
  it('is found by its build ID, also of a path that had to wait', async () => {
    const cache = createTestCache();
    const reference = await testPath('reference');
    const path = await debugPath('debug', [reference]);
    await cache.publish(await cache.stage([path]));
    assert.equal(textOf(cache, key), undefined);
    await cache.publish(await cache.stage([reference]));
    assert.equal(textOf(cache, key), linkOf(cache, path));
  });

  it('keeps its link when another path has the same build ID', async () => {
    const cache = createTestCache();
    const [first, second] = [await debugPath('first'), await debugPath('second')];
    for (const path of [first, second]) await cache.publish(await cache.stage([path]));
    assert.equal(textOf(cache, key), linkOf(cache, first));
    await blockPath(cache, storeHash(second.info.path), record);
    assert.equal(textOf(cache, key), linkOf(cache, first));
  });

  it('loses its link when its path is withdrawn', async () => {
    const cache = createTestCache();
    const path = await debugPath('debug');
    await cache.publish(await cache.stage([path]));
    await blockPath(cache, storeHash(path.info.path), record);
    assert.equal(textOf(cache, key), undefined);
  });

  it('loses its link also when an earlier withdrawal was interrupted', async () => {
    const cache = createTestCache();
    const path = await debugPath('debug');
    await cache.publish(await cache.stage([path]));
    await cache.public.delete([`${storeHash(path.info.path)}.narinfo`]);
    await blockPath(cache, storeHash(path.info.path), record);
    assert.equal(textOf(cache, key), undefined);
  });
});
