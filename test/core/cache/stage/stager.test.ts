import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { BatchId } from '../../../../core/cache/layout.ts';
import { readManifest } from '../../../../core/cache/manifest.ts';
import { createStager } from '../../../../core/cache/stage/stager.ts';
import type { LocalPath } from '../../../../core/cache/stage/local-path.ts';
import type { StagerOptions } from '../../../../core/cache/stage/stager.ts';
import { NicheError, isNicheError } from '../../../../core/errors.ts';
import { maxBatchNarBytes, maxBatchPaths } from '../../../../core/limits.ts';
import type { PathInfo } from '../../../../core/nix/path-info.ts';
import { listKeys, patternBytes, readObject } from '../../../support/assert/bytes.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { inventedPath, testPath } from '../../../support/cache/paths.ts';
import type { TestPath } from '../../../support/cache/paths.ts';
import { faultyBucket } from '../../../support/buckets/faulty-bucket.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';

const a = await testPath('a');
const b = await testPath('b', { references: [a] });
const large = await testPath('large', { contents: patternBytes(maxBatchNarBytes) });

const local = ({ info, nar }: TestPath, readLog?: LocalPath['readLog']): LocalPath => ({
  info,
  openNar: async function* () {
    yield await Promise.resolve(nar);
  },
  ...(readLog ? { readLog } : {}),
});

/** Stages the paths as one upload. Returns the staged and the failed paths. */
async function stageAll(
  cache: TestCache,
  paths: readonly LocalPath[],
  options: Partial<StagerOptions> = {},
) {
  const staged: { id: BatchId; paths: string[] }[] = [];
  const failed: [string, string][] = [];
  const stager = createStager({
    bucket: cache.staging,
    upload: cache.newUpload(),
    storeDir: cache.config.storeDir,
    onStaged: (id, infos) => staged.push({ id, paths: infos.map(({ path }) => path) }),
    onFailed: ({ path }, error) => failed.push([path, isNicheError(error) ? error.code : '?']),
    ...options,
  });
  for (const path of paths) stager.addPath(path);
  let failure: unknown;
  await stager.finish().catch((error: unknown) => (failure = error));
  return { staged, failed, failure };
}

describe('staging', () => {
  it('batches small paths, and stages a large one alone', async () => {
    const cache = createTestCache();
    const { staged, failed } = await stageAll(cache, [local(a), local(large), local(b)]);
    assert.deepEqual(failed, []);
    const batches = staged.map(({ paths }) => paths).sort((x, y) => x.length - y.length);
    assert.deepEqual(batches, [[large.info.path], [a.info.path, b.info.path]]);
    for (const { id } of staged) await cache.publish(id);
    const visible = await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
    assert.equal(visible.size, 3);
  });

  it('creates batches within the limits of the publisher', async () => {
    const cache = createTestCache();
    const one = await testPath('many');
    const many = Array.from({ length: 600 }, (_, n) =>
      local({ ...one, info: { ...one.info, path: inventedPath(`many-${n}`) } }),
    );
    const { staged } = await stageAll(cache, many);
    assert.deepEqual(
      staged.map(({ paths }) => paths.length).sort((x, y) => y - x),
      [maxBatchPaths, maxBatchPaths, 600 - 2 * maxBatchPaths],
    );
    for (const { id } of staged) {
      assert.ok(await readManifest(cache.staging, id, cache.config.storeDir));
    }
  });

  it('writes the NARs and logs before the manifest, and each log once', async () => {
    const keys: string[] = [];
    const cache = createTestCache();
    const deriver = inventedPath('a.drv');
    const log = () => Promise.resolve(Buffer.from('log'));
    const outputs = [a, b].map(({ info, nar }) => local({ info: { ...info, deriver }, nar }, log));
    const bucket: typeof cache.staging = {
      ...cache.staging,
      put: (key, body, options) => {
        keys.push(key.split('/')[2]!);
        return cache.staging.put(key, body, options);
      },
    };
    await stageAll(cache, outputs, { bucket });
    assert.deepEqual(keys, ['0.nars', `${deriver.slice('/nix/store/'.length)}.log`, '0.json']);
  });

  it('sends one batch before it packs the next', async () => {
    const events: string[] = [];
    const paths = ['one', 'two', 'three'].map(async (name): Promise<LocalPath> => {
      const { info, nar } = await testPath(name, { contents: patternBytes(maxBatchNarBytes / 2) });
      return {
        info,
        openNar: () => {
          events.push(name);
          return local({ info, nar }).openNar();
        },
      };
    });
    const bucket = memoryBucket({
      before: (_, key) => key.endsWith('.nars') && events.push(key.slice(-6)),
    });
    await stageAll(createTestCache(), await Promise.all(paths), { bucket });
    assert.deepEqual(events, ['one', '0.nars', 'two', '1.nars', 'three', '2.nars']);
  });

  it('deletes a batch whose manifest does not fit into the storage, and none after other failures', async () => {
    for (const fault of ['full', 'unavailable'] as const) {
      const cache = createTestCache();
      const bucket = faultyBucket(cache.staging, (operation, key) =>
        operation === 'put' && key.endsWith('.json') ? fault : undefined,
      );
      const { staged, failure } = await stageAll(cache, [local(a)], { bucket });
      assert.deepEqual(staged, []);
      assert.ok(isNicheError(failure, `storage-${fault}`));
      // The manifest may exist, since only the response may be lost.
      assert.equal((await listKeys(cache.staging)).length, fault === 'full' ? 0 : 1);
    }
  });

  it('skips missing and modified paths, and stages the rest', async () => {
    const cache = createTestCache();
    const gone: LocalPath = {
      info: b.info,
      openNar: async function* () {
        await Promise.resolve();
        throw new NicheError('not-found', 'it was collected');
      },
    };
    const damaged = local({ info: large.info, nar: a.nar });
    const { staged, failed, failure } = await stageAll(cache, [gone, local(a), damaged]);
    assert.equal(failure, undefined);
    assert.deepEqual(
      staged.map(({ paths }) => paths),
      [[a.info.path]],
    );
    assert.deepEqual(
      new Map(failed),
      new Map([
        [b.info.path, 'not-found'],
        [large.info.path, 'nar-hash-mismatch'],
      ]),
    );
    const { id } = staged[0]!;
    assert.equal((await listKeys(cache.staging)).length, 2);
    assert.deepEqual(
      await readObject(cache.staging, `staging/${id.upload}/${id.batch}.nars`),
      a.nar,
    );
  });

  it('reports the paths that an outage prevented, and throws it', async () => {
    const cache = createTestCache();
    for (const fault of ['unavailable', 'denied', 'full'] as const) {
      const bucket = faultyBucket(cache.staging, (operation) =>
        operation === 'put' || operation === 'commit' ? fault : undefined,
      );
      const { staged, failed, failure } = await stageAll(cache, [local(a), local(large)], {
        bucket,
      });
      assert.deepEqual(staged, []);
      assert.equal(failed.length, 2);
      assert.ok(isNicheError(failure, `storage-${fault}`), String(failure));
    }
    assert.deepEqual(await listKeys(cache.staging), []);
  });

  it('fails only the paths whose claims no publisher accepts', async () => {
    const invented = Array.from({ length: 10_001 }, (_, n) => inventedPath(`r${n}`));
    const signature = a.info.signatures[0] ?? `test-1:${'A'.repeat(86)}==`;
    const bad: readonly (readonly [Partial<PathInfo>, string])[] = [
      [{ references: invented }, 'too-large'],
      // Old versions of Nix registered no size.
      [{ narSize: 0 }, 'malformed-path-info'],
      [{ narHash: 'sha256:x' }, 'malformed-path-info'],
      [{ references: ['/nix/store/x'] }, 'malformed-path-info'],
      [{ deriver: 'x.drv' }, 'malformed-path-info'],
      [{ ca: 'text:sha256:x' }, 'malformed-path-info'],
      [{ signatures: ['x'] }, 'malformed-path-info'],
      [{ signatures: new Array<string>(65).fill(signature) }, 'malformed-path-info'],
    ];
    const paths = bad.map(([change], n) => {
      return local({ info: { ...a.info, path: inventedPath(`bad${n}`), ...change }, nar: a.nar });
    });
    const { staged, failed } = await stageAll(createTestCache(), [local(a), ...paths, local(b)]);
    assert.deepEqual(
      failed,
      bad.map(([, code], n) => [inventedPath(`bad${n}`), code]),
    );
    assert.deepEqual(
      staged.map((batch) => batch.paths),
      [[a.info.path, b.info.path]],
    );
  });

  it('refuses a path whose manifest would be too long', async () => {
    const references = Array.from({ length: 10_000 }, (_, n) =>
      inventedPath(`r${n}`.padEnd(100, 'x')),
    );
    const info = { ...a.info, references };
    const { failed } = await stageAll(createTestCache(), [local({ info, nar: a.nar })]);
    assert.deepEqual(failed, [[info.path, 'too-large']]);
  });
});

describe('the order of the manifests', () => {
  const half = (name: string, references: TestPath[] = []): Promise<TestPath> =>
    testPath(name, { references, contents: patternBytes(maxBatchNarBytes / 2) });

  /**
   * Stages one batch per path, and returns the objects in the order of their creation.
   *
   * @param held an object that is written only after another one: its number and kind
   */
  async function order(
    paths: readonly LocalPath[],
    held: { readonly object: string; readonly until: string; readonly fails?: boolean },
  ): Promise<string[]> {
    const events: string[] = [];
    const due = Promise.withResolvers<undefined>();
    const name = (key: string): string => key.split('/').at(-1) ?? '';
    const bucket = memoryBucket({
      async before(operation, key) {
        if (name(key) !== held.object || operation === 'upload') return;
        await due.promise;
        if (held.fails === true) throw new NicheError('storage-denied', 'injected');
      },
      async after(operation, key) {
        if (operation !== 'put' && operation !== 'commit') return;
        if (name(key) === held.until) due.resolve(undefined);
        // A waiting write starts before this response arrives.
        await turn();
        events.push(name(key));
      },
    });
    await stageAll(createTestCache(), paths, { bucket });
    return events;
  }

  it('follows the references, while NARs are uploaded at once', async () => {
    const one = await half('one');
    const two = await half('two', [one]);
    const three = await half('three', [two]);
    const events = await order(
      [one, two, three].map((path) => local(path)),
      { object: '0.nars', until: '2.nars' },
    );
    assert.deepEqual(events.slice(0, 2).sort(), ['1.nars', '2.nars']);
    assert.deepEqual(events.slice(2), ['0.nars', '0.json', '1.json', '2.json']);
  });

  it('writes empty logs too', async () => {
    const cache = createTestCache();
    const deriver = inventedPath('silent.drv');
    const path = local({ info: { ...a.info, deriver }, nar: a.nar }, () =>
      Promise.resolve(Buffer.alloc(0)),
    );
    const { failed } = await stageAll(cache, [path]);
    assert.deepEqual(failed, []);
    const logs = (await listKeys(cache.staging)).filter((key) => key.endsWith('.log'));
    assert.equal(logs.length, 1);
  });

  it('does not delay logs', async () => {
    const deriver = inventedPath('a.drv');
    const log = `${deriver.slice('/nix/store/'.length)}.log`;
    const readLog = () => Promise.resolve(Buffer.from('log'));
    const path = local({ info: { ...a.info, deriver }, nar: a.nar }, readLog);
    const events = await order([path], { object: '0.nars', until: log });
    assert.deepEqual(events, [log, '0.nars', '0.json']);
  });

  it('does not delay batches without references', async () => {
    const paths = [local(await half('one')), local(await half('two'))];
    const events = await order(paths, { object: '0.nars', until: '1.json' });
    assert.deepEqual(events, ['1.nars', '1.json', '0.nars', '0.json']);
  });

  it('is not delayed by a large NAR', async () => {
    const paths = [local(large), local(await testPath('user', { references: [large] }))];
    const events = await order(paths, { object: '0.nars', until: '1.json' });
    assert.deepEqual(events, ['1.nars', '1.json', '0.nars', '0.json']);
  });

  it('is not delayed by a failed batch', async () => {
    const one = await half('one');
    const paths = [local(one), local(await half('two', [one]))];
    const held = { object: '0.nars', until: '1.nars', fails: true };
    assert.deepEqual(await order(paths, held), ['1.nars', '1.json']);
  });
});
