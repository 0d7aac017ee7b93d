import assert from 'node:assert/strict';
import { before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { narInfoKey, rootOf } from '../../core/cache/layout.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import { NicheError } from '../../core/errors.ts';
import { maxAttempts } from '../../core/limits.ts';
import { storeHash } from '../../core/nix/store-path.ts';
import { listKeys } from '../support/assert/bytes.ts';
import { checkInvariants } from '../support/cache/invariants.ts';
import { auditRecords, dayMs } from '../support/cache/kit.ts';
import { testPath } from '../support/cache/paths.ts';
import type { TestPath } from '../support/cache/paths.ts';
import { CrashError, crashAtWrite } from '../support/buckets/crash.ts';
import { createAdapterLab, timeLimitSeconds } from './adapter-lab.ts';
import type { Adapter, AdapterLab } from './adapter-lab.ts';

const limitMs = timeLimitSeconds * 1000;

/** Tests the functions of one cloud. All clouds must pass the same tests. */
export function describeAdapter(adapter: Adapter): void {
  describe(`the functions on ${adapter.name}`, () => {
    let library: TestPath, tool: TestPath, app: TestPath;
    let lab: AdapterLab;

    before(async () => {
      library = await testPath('library');
      tool = await testPath('tool', { references: [library] });
      app = await testPath('app', { references: [library, tool], selfReference: true });
    });
    beforeEach(async () => {
      lab = await createAdapterLab(adapter);
    });

    /** Each path as a batch of its own, in one upload. */
    async function stage(...paths: TestPath[]): Promise<BatchId[]> {
      const upload = lab.cache.newUpload();
      const ids = paths.map((_, batch) => ({ upload, batch }));
      for (const [batch, path] of paths.entries())
        await lab.cache.stage([path], { id: ids[batch]! });
      return ids;
    }

    async function statuses(id: BatchId, ...paths: TestPath[]): Promise<string[]> {
      const receipts = paths.map(({ info }) => lab.cache.receipt(id.upload, info));
      return (await Promise.all(receipts)).map(
        (receipt) => receipt?.code ?? receipt?.status ?? 'none',
      );
    }

    /** Asserts that everything is published, no work is left, and no invariant was violated. */
    async function assertPublished(...paths: TestPath[]): Promise<void> {
      for (const { info } of paths) {
        assert.ok(lab.cache.publicStore.objects.has(narInfoKey(storeHash(info.path))), info.path);
      }
      lab.watch.assertKept();
      await checkInvariants({ ...lab.cache, publicKeys: lab.cache.config.publicKeys });
      for (const prefix of ['staging/', 'pending/', 'waiting/', 'attempts/']) {
        assert.deepEqual(await listKeys(lab.cache[rootOf(prefix)], prefix), []);
      }
    }

    it('publish the batch of an event', async () => {
      const [id] = await stage(library);
      assert.equal(await lab.process().publish(lab.event(id!)), 'done');
      assert.deepEqual(await statuses(id!, library), ['published']);
      const [record] = await auditRecords(lab.cache);
      assert.equal(record?.origin?.via, 'event');
      await assertPublished(library);
    });

    it('publish a repeated event once, also when it arrives concurrently', async () => {
      const ids = await stage(library, tool);
      const processes = [lab.process(), lab.process(), lab.process()];
      await Promise.all(
        processes.flatMap((process) => ids.map((id) => process.publish(lab.event(id)))),
      );
      await lab.drain();
      for (const id of ids) assert.equal(await lab.process().publish(lab.event(id)), 'done');
      await lab.drain();
      await assertPublished(library, tool);
    });

    it('publish in any order, and resume waiting paths through the queue', async () => {
      const orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
      ];
      for (const order of orders) {
        lab = await createAdapterLab(adapter);
        const ids = await stage(library, tool, app);
        for (const index of order) {
          assert.equal(await lab.process().publish(lab.event(ids[index]!)), 'done');
        }
        const isInOrder = order.join() === '0,1,2';
        assert.equal(lab.queue.length > 0, !isInOrder, `woken after ${order.join()}`);
        await lab.drain();
        assert.deepEqual(await statuses(ids[0]!, library, tool, app), Array(3).fill('published'));
        await assertPublished(library, tool, app);
      }
    });

    it('lose nothing when they crash at any write', async () => {
      async function run(crash: ReturnType<typeof crashAtWrite>): Promise<void> {
        lab = await createAdapterLab(adapter);
        const ids = await stage(tool, library);
        const doomed = lab.process({ hooks: crash });
        for (const id of ids) await doomed.publish(lab.event(id));
        await lab.drain(lab.process());
        lab.cache.advance(2 * limitMs + 1000);
        // The cloud redelivers unacknowledged messages. The sweep finds the rest.
        for (const id of ids) await lab.process().publish(lab.event(id));
        await lab.process().sweep();
        await lab.drain();
        await lab.process().sweep();
        lab.cache.advance(8 * dayMs);
        await lab.process().sweep();
        await lab.drain();
        await assertPublished(tool, library);
      }
      const counting = crashAtWrite(Infinity, 'before');
      await run(counting);
      assert.ok(counting.writes() > 15, `${counting.writes()} writes`);
      for (let nth = 1; nth <= counting.writes(); nth += 1) {
        const crash = crashAtWrite(nth, 'before');
        await run(crash).catch((cause: unknown) => {
          throw new Error(`died before write ${nth}`, { cause });
        });
        assert.ok(crash.hasCrashed());
      }
    });

    it('do not acknowledge a job that crashed, and reject a path after five crashes', async () => {
      const id = await lab.cache.stage([library, tool]);
      const doomed = () => {
        let isDead = false;
        return lab.process({
          hooks: {
            before(operation, key) {
              isDead ||= operation === 'put' && key === narInfoKey(storeHash(tool.info.path));
              if (isDead) throw new CrashError(`killed at ${key}`);
            },
          },
        });
      };
      for (let deaths = 0; deaths <= maxAttempts; deaths += 1) {
        assert.equal(await doomed().publish(lab.event(id)), 'again', `after ${deaths} deaths`);
        lab.cache.advance(limitMs + 1000);
      }
      assert.equal(await doomed().publish(lab.event(id)), 'done');
      const [first, second] = await statuses(id, library, tool);
      assert.match(first!, /^(?:published|exists)$/);
      assert.equal(second, 'failed');
      await assertPublished(library);
    });

    it('keep a job that fails temporarily, without counting a crash', async () => {
      const [id] = await stage(library);
      const down = lab.process({
        hooks: {
          before(operation, key) {
            if (operation === 'put' && key.endsWith('.narinfo')) {
              throw new NicheError('storage-unavailable', 'injected: down');
            }
          },
        },
      });
      for (let times = 0; times < maxAttempts + 2; times += 1) {
        assert.equal(await down.publish(lab.event(id!)), 'again');
        lab.cache.advance(limitMs + 1000);
      }
      const failures = lab.records.filter(({ level }) => level === 'error');
      assert.equal(failures.length, maxAttempts + 2);
      assert.equal(failures[0]?.['code'], 'storage-unavailable');
      assert.equal(await lab.process().publish(lab.event(id!)), 'done');
      await assertPublished(library);
    });

    it('hand on the rest of a job when the time is too short', async () => {
      const id = await lab.cache.stage([library, tool, app]);
      // A batch with a crash is published path by path.
      const crash = crashAtWrite(2, 'before');
      assert.equal(await lab.process({ hooks: crash }).publish(lab.event(id)), 'again');
      lab.cache.advance(limitMs + 1000);
      const narInfo = narInfoKey(storeHash(library.info.path));
      const slow = {
        limitSeconds: 1,
        hooks: {
          before: (operation: string, key: string) =>
            operation === 'put' && key === narInfo ? sleep(900) : undefined,
        },
      };
      assert.equal(await lab.process(slow).publish(lab.event(id)), 'done');
      assert.equal(lab.queue.length, 1);
      assert.deepEqual(await statuses(id, library, tool, app), ['published', 'none', 'none']);
      await lab.drain();
      for (const status of await statuses(id, library, tool, app)) {
        assert.match(status, /^(?:published|exists)$/);
      }
      const origins = (await auditRecords(lab.cache)).map(({ origin }) => origin?.via);
      assert.deepEqual(origins, ['event', 'event', 'event']);
      await assertPublished(library, tool, app);
    });

    it('sweep batches without an event, and lost wake-ups', async () => {
      const ids = await stage(tool, library);
      const mute = lab.process({ isMute: true });
      assert.equal(await mute.publish(lab.event(ids[0]!)), 'done');
      assert.deepEqual(await statuses(ids[0]!, tool), ['waiting']);
      assert.equal(await lab.process().sweep(), 'done');
      assert.deepEqual(lab.queue, [], 'what was staged just now is not stale');
      lab.cache.advance(2 * limitMs + 1000);
      assert.equal(await lab.process().sweep(), 'done');
      assert.equal(lab.queue.length, 1);
      // Again while the batch is in the queue: it is not sent twice.
      assert.equal(await lab.process().sweep(), 'done');
      assert.equal(lab.queue.length, 1);
      await lab.drain(mute);
      assert.deepEqual(await statuses(ids[0]!, tool, library), ['waiting', 'published']);
      assert.equal(await lab.process().sweep(), 'done');
      assert.deepEqual(await statuses(ids[0]!, tool), ['published']);
      const origins = (await auditRecords(lab.cache)).map(({ path, origin }) => [
        path,
        origin?.via,
      ]);
      assert.deepEqual(
        new Map(origins as [string, string][]),
        new Map([
          [library.info.path, 'sweep'],
          [tool.info.path, 'event'],
        ]),
      );
      await assertPublished(tool, library);
    });

    it('hand on overdue batches even while the queue is busy', async () => {
      const [id] = await stage(library);
      const other = { niche: 1, publish: { ...id!, batch: 99, via: 'event' } };
      lab.queue.push(other);
      lab.cache.advance(2 * limitMs + 1000);
      assert.equal(await lab.process().sweep(), 'done');
      assert.deepEqual(lab.queue, [other], 'it may be in there');
      lab.cache.advance(dayMs);
      assert.equal(await lab.process().sweep(), 'done');
      assert.equal(lab.queue.length, 2);
      await lab.drain();
      assert.deepEqual(await statuses(id!, library), ['published']);
      await assertPublished(library);
    });

    it('ignore objects that are not manifests of their cache', async () => {
      const [id] = await stage(library);
      const { bucket, prefix } = adapter.root;
      const { upload } = id!;
      const others: [string, string][] = [
        [bucket, `${prefix}staging/${upload}/0.nars`],
        [bucket, `${prefix}staging/${upload}/0.json.json`],
        [bucket, `${prefix}staging/${upload}/00.json`],
        [bucket, `${prefix}staging/../staging/${upload}/0.json`],
        [bucket, `${prefix}receipts/${upload}/${storeHash(library.info.path)}.published.json`],
        [bucket, `other/${prefix}staging/${upload}/0.json`],
        [`${bucket}-other`, `${prefix}staging/${upload}/0.json`],
      ];
      const touched: string[] = [];
      const process = lab.process({
        hooks: {
          before(_, key) {
            if (key !== 'niche.json') touched.push(key);
          },
        },
      });
      for (const [where, key] of others) {
        const verdict = await process.publish({ kind: 'object', bucket: where, key });
        assert.equal(verdict, 'done', key);
      }
      assert.deepEqual(touched, []);
    });

    it('report malformed events', async () => {
      const verdict = await lab.process().publish({ kind: 'nonsense' });
      assert.equal(verdict, adapter.keepsNonsense ? 'again' : 'done');
      const failures = lab.records.filter(({ level }) => level === 'error');
      assert.deepEqual(
        failures.map(({ code }) => code),
        ['malformed-event'],
      );
      assert.equal(await lab.process().publish({ kind: 'message', body: { niche: 1 } }), 'again');
    });

    it('log the same record of a path on each cloud, without a secret', async () => {
      const [id, second] = await stage(tool, library);
      await lab.process().publish(lab.event(id!));
      await lab.process().publish(lab.event(second!));
      const own = (record: object): object =>
        Object.fromEntries(
          Object.entries(record).filter(([name]) =>
            ['level', 'message', 'upload', 'path', 'narSize', 'missing'].includes(name),
          ),
        );
      const { upload } = id!;
      const told = lab.records.filter(({ path }) => path !== undefined).map(own);
      const of = ({ info: { path, narSize } }: TestPath): object => ({ upload, path, narSize });
      assert.deepEqual(told, [
        { level: 'info', message: 'waiting', ...of(tool), missing: 1 },
        { level: 'info', message: 'published', ...of(library) },
      ]);
      for (const record of lab.records) {
        assert.match(record.at, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
      }
      assert.doesNotMatch(JSON.stringify(lab.records), /secret|password/i);
    });
  });
}
