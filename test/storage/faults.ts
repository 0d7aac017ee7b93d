import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { mapConcurrent } from '../../core/util/concurrency.ts';
import type { Bucket, ObjectInfo } from '../../core/storage/bucket.ts';
import { listKeys, patternBytes, readObject } from '../support/assert/bytes.ts';
import {
  firstFaults,
  startFaultProxy,
  type Answer,
  type Fault,
  type FaultProxy,
  type WholeAnswer,
} from '../support/servers/fault-proxy.ts';

/** A driver with a real server, behind the fault proxy. */
export interface FaultSubject {
  /** Origin of the server, `http://127.0.0.1:<port>`. */
  readonly origin: string;
  /**
   * Opens an empty bucket through the server at `through`, with at most 3 attempts per request and
   * backoff from about 10 ms.
   *
   * @param idleMs how long a request may be idle
   */
  readonly open: (through: string, idleMs: number) => Promise<Bucket>;
  /** This server's response for “denied”. */
  readonly denied: Answer;
  readonly throttled: Answer;
  readonly down: Answer;
  /** Returns whether a request path concerns the object `key`. */
  readonly isAbout: (path: string, key: string) => boolean;
  /** A size above the driver's largest request, in bytes. */
  readonly largeBytes: number;
}

type Edit = (answer: WholeAnswer) => WholeAnswer;

const shortIdleMs = 500;

interface Scene {
  readonly bucket: Bucket;
  readonly proxy: FaultProxy;
  readonly subject: FaultSubject;
}

/** Tests that a driver survives faults and never reports them as “missing”. Run it on every driver. */
export function storageFaults(name: string, start: () => Promise<FaultSubject>): void {
  /** @param idleMs short only for cases that hang: a server may be slow */
  function on(title: string, run: (scene: Scene) => Promise<void>, idleMs = 20_000): void {
    it(title, async (t) => {
      const subject = await start();
      const proxy = await startFaultProxy(subject.origin);
      t.after(() => proxy.stop());
      const bucket = await subject.open(proxy.url, idleMs);
      await run({ bucket, proxy, subject });
    });
  }

  const unavailable = { code: 'storage-unavailable' };

  /** Asserts that every operation fails, on an existing and on a missing object. */
  async function failEach(bucket: Bucket, expected: { code: string }): Promise<void> {
    for (const key of ['there', 'missing']) {
      await assert.rejects(bucket.head(key), expected, `head ${key}`);
      await assert.rejects(bucket.get(key), expected, `get ${key}`);
      await assert.rejects(bucket.put(key, Buffer.from('y')), expected, `put ${key}`);
      const body = Buffer.from('z');
      await assert.rejects(bucket.put(key, body, { ifAbsent: true }), expected, `create ${key}`);
      await assert.rejects(bucket.replace(key, body, '"x"'), expected, `replace ${key}`);
    }
    await assert.rejects(listKeys(bucket), expected, 'list');
    await assert.rejects(bucket.delete(['there']), expected, 'delete');
    const upload = await bucket.upload('uploaded').catch((error: unknown) => {
      assert.equal((error as { code?: string }).code, expected.code);
      return null;
    });
    if (upload === null) return;
    await assert.rejects(async () => {
      await upload.write(Buffer.from('x'));
      await upload.commit();
    }, expected);
    await upload.abort().catch(() => undefined);
  }

  /** Asserts that every operation succeeds, although its first requests fail. */
  async function surviveEach({ bucket, proxy }: Scene, count: number, fault: Fault): Promise<void> {
    async function troubled<T>(work: () => Promise<T>): Promise<T> {
      proxy.inject(firstFaults(count, fault));
      return work();
    }
    assert.equal((await troubled(() => bucket.head('there')))?.size, 5);
    assert.equal(await troubled(() => bucket.head('missing')), null);
    assert.equal(String(await troubled(() => readObject(bucket, 'there'))), 'there');
    assert.equal(await troubled(() => bucket.get('missing')), null);
    assert.equal(await troubled(() => bucket.put('new', Buffer.from('n'))), 'created');
    const create = { ifAbsent: true };
    assert.equal(await troubled(() => bucket.put('fresh', Buffer.from('f'), create)), 'created');
    assert.equal(await troubled(() => bucket.put('there', Buffer.from('f'), create)), 'exists');
    assert.deepEqual(await troubled(() => listKeys(bucket)), ['fresh', 'new', 'there']);
    await troubled(() => bucket.delete(['fresh', 'new']));
    proxy.inject(() => null);
    assert.deepEqual(await listKeys(bucket), ['there']);
  }

  async function withObject(bucket: Bucket): Promise<void> {
    await bucket.put('there', Buffer.from('there'));
  }

  describe(`${name}: behind a faulty link`, () => {
    on('reports “denied”, not “missing”, without a retry', async ({ bucket, proxy, subject }) => {
      await withObject(bucket);
      proxy.inject(() => ({ kind: 'answer', ...subject.denied }));
      await failEach(bucket, { code: 'storage-denied' });
      const asked = proxy.requests.length;
      await assert.rejects(bucket.get('there'), { code: 'storage-denied' });
      assert.equal(proxy.requests.length, asked + 1);
    });

    on('retries while a server throttles', async (scene) => {
      await withObject(scene.bucket);
      // More often than it retries failed requests.
      await surviveEach(scene, 5, { kind: 'answer', ...scene.subject.throttled });
      await surviveEach(scene, 5, { kind: 'answer', ...scene.subject.throttled, status: 429 });
    });

    on('retries while a server is briefly down, or resets connections', async (scene) => {
      await withObject(scene.bucket);
      await surviveEach(scene, 2, { kind: 'answer', ...scene.subject.down });
      await surviveEach(scene, 2, { kind: 'reset' });
    });

    on(
      'gives up on a server that stays down, or keeps resetting connections',
      async ({ bucket, proxy, subject }) => {
        await withObject(bucket);
        for (const fault of [{ kind: 'answer', ...subject.down }, { kind: 'reset' }] as const) {
          proxy.inject(() => fault);
          await failEach(bucket, unavailable);
        }
      },
    );

    on(
      'gives up on a server that never responds',
      async ({ bucket, proxy }) => {
        await withObject(bucket);
        proxy.inject(() => ({ kind: 'hang' }));
        await assert.rejects(bucket.head('there'), unavailable);
        await assert.rejects(bucket.get('missing'), unavailable);
        await assert.rejects(bucket.put('x', Buffer.from('x'), { ifAbsent: true }), unavailable);
        await assert.rejects(listKeys(bucket), unavailable);
        await assert.rejects(bucket.delete(['there']), unavailable);
        proxy.inject(firstFaults(1, { kind: 'hang' }));
        assert.equal((await bucket.head('there'))?.size, 5);
      },
      shortIdleMs,
    );

    on(
      'resumes a body that breaks off, or stops, midway',
      async ({ bucket, proxy }) => {
        const bytes = patternBytes(3 * 2 ** 20 + 7);
        await bucket.put('there', bytes);
        const isRead = ({ method }: { method: string }): boolean => method === 'GET';
        for (const then of ['reset', 'hang'] as const) {
          proxy.inject(firstFaults(2, { kind: 'half', then }, isRead));
          assert.ok(bytes.equals((await readObject(bucket, 'there'))!), then);
          proxy.inject(firstFaults(1, { kind: 'half', then }, isRead));
          const range = { start: 1000, end: 2_000_000 };
          const part = await readObject(bucket, 'there', { range });
          assert.ok(bytes.subarray(1000, 2_000_000).equals(part!), then);
        }
        const found = await bucket.get('there');
        proxy.inject(() => ({ kind: 'reset' }));
        assert.ok(found !== null);
      },
      shortIdleMs,
    );

    on('fails when a body cannot be read to its end', async ({ bucket, proxy, subject }) => {
      await bucket.put('there', patternBytes(2 ** 20));
      let reads = 0;
      proxy.inject(({ method, path }) => {
        if (method !== 'GET' || !subject.isAbout(path, 'there')) return null;
        reads += 1;
        return reads === 1 ? { kind: 'half', then: 'reset' } : { kind: 'reset' };
      });
      await assert.rejects(readObject(bucket, 'there'), unavailable);
    });

    on('never combines bytes of two objects, or the wrong bytes, in a body', async (scene) => {
      const { bucket, proxy, subject } = scene;
      const bytes = patternBytes(2 ** 20 + 7);
      await bucket.put('there', bytes);
      /** Responses of a server without range support, and of one that ignores If-Match. */
      const edits: readonly Edit[] = [
        ({ headers }) => ({
          status: 200,
          headers: { ...without(headers, 'content-range'), 'content-length': `${bytes.length}` },
          body: bytes,
        }),
        ({ headers, ...rest }) => ({
          ...rest,
          headers: { ...headers, etag: '"another"', 'x-goog-generation': '7' },
        }),
      ];
      for (const edit of edits) {
        let reads = 0;
        proxy.inject(({ method, path }) => {
          if (method !== 'GET' || !subject.isAbout(path, 'there')) return null;
          reads += 1;
          return reads === 1 ? { kind: 'half', then: 'reset' } : { kind: 'edited', edit };
        });
        await assert.rejects(readObject(bucket, 'there'), unavailable);
        assert.equal(reads, 2);
      }
      proxy.inject(() => ({ kind: 'edited', edit: edits[0]! }));
      const range = { start: 5, end: 10 };
      await assert.rejects(readObject(bucket, 'there', { range }), unavailable);
    });

    on('does not treat an object of unknown size as empty', async (scene) => {
      const { bucket, proxy } = scene;
      await withObject(bucket);
      const edit: Edit = ({ headers, ...rest }) => ({
        ...rest,
        headers: without(headers, 'content-length'),
      });
      proxy.inject(() => ({ kind: 'edited', edit }));
      await assert.rejects(readObject(bucket, 'there'), unavailable);
      // Google returns the size in a JSON document.
      const isTold = await bucket.head('there').catch((error: unknown) => error);
      if (isTold instanceof Error)
        assert.equal((isTold as { code?: string }).code, unavailable.code);
      else assert.equal((isTold as ObjectInfo).size, 5);
    });

    on('never treats a partial listing as complete', async ({ bucket, proxy }) => {
      const keys = Array.from({ length: 40 }, (_, index) => `k${String(index).padStart(3, '0')}`);
      await mapConcurrent(keys, 8, (key) => bucket.put(key, Buffer.from(key)));
      proxy.inject(firstFaults(1, { kind: 'half', then: 'reset' }));
      assert.deepEqual(await listKeys(bucket), keys);
      proxy.inject(() => ({ kind: 'half', then: 'reset' }));
      await assert.rejects(listKeys(bucket), unavailable);
    });

    on('recognises its own object when the response to its creation was lost', async (scene) => {
      const { bucket, proxy, subject } = scene;
      if (!bucket.capabilities.conditionalPut) return;
      const isWrite = ({ method, path }: { method: string; path: string }): boolean =>
        /^(?:PUT|POST)$/.test(method) && subject.isAbout(path, 'own');
      proxy.inject(firstFaults(1, { kind: 'lost' }, isWrite));
      const create = { ifAbsent: true };
      assert.equal(await bucket.put('own', Buffer.from('mine'), create), 'created');
      proxy.inject(firstFaults(1, { kind: 'reset' }, isWrite));
      assert.equal(await bucket.put('own', Buffer.from('mine'), create), 'exists');
      if (!bucket.capabilities.conditionalReplace) return;
      const { etag } = (await bucket.head('own'))!;
      proxy.inject(firstFaults(1, { kind: 'lost' }, isWrite));
      assert.equal(await bucket.replace('own', Buffer.from('next'), etag), 'replaced');
      assert.equal(await bucket.replace('own', Buffer.from('last'), etag), 'changed');
      assert.equal(String(await readObject(bucket, 'own')), 'next');
    });

    on('uploads a large object although each response is lost in turn', async (scene) => {
      const { bucket, proxy, subject } = scene;
      const bytes = patternBytes(subject.largeBytes);
      const lost = new Set<string>();
      proxy.inject(({ method, path }) => {
        const request = `${method} ${path}`;
        if (method === 'GET' || method === 'HEAD' || lost.has(request)) return null;
        lost.add(request);
        return { kind: 'lost' };
      });
      const upload = await bucket.upload('large');
      await upload.write(bytes);
      assert.equal(await upload.commit({ ifAbsent: true }), 'created');
      proxy.inject(() => null);
      assert.ok(bytes.equals((await readObject(bucket, 'large'))!));
    });

    on('stores nothing of an upload that fails midway', async ({ bucket, proxy }) => {
      const upload = await bucket.upload('large');
      await upload.write(patternBytes(1000));
      proxy.inject(() => ({ kind: 'reset' }));
      await assert.rejects(upload.commit(), unavailable);
      proxy.inject(() => null);
      await upload.abort();
      assert.deepEqual(await listKeys(bucket), []);
      assert.equal((await bucket.sweepUploads?.('', new Date(Date.now() + 3_600_000))) ?? 0, 0);
    });

    on('sends sequential requests over one connection', async ({ bucket, proxy }) => {
      await bucket.put('empty', Buffer.alloc(0));
      const large = patternBytes(3 * 2 ** 20 + 7);
      await bucket.put('large', large);
      // Exclude requests that are made once per process.
      assert.equal(await bucket.get('missing'), null);
      const before = proxy.connections;
      for (const round of [1, 2]) {
        await bucket.put(`new-${round}`, Buffer.from('n'), { ifAbsent: true });
        assert.equal((await readObject(bucket, 'empty'))?.length, 0);
        assert.ok(large.equals((await readObject(bucket, 'large'))!));
        const range = { start: 1000, end: 2000 };
        assert.equal((await readObject(bucket, 'large', { range }))?.length, 1000);
        assert.equal(await bucket.get('missing'), null);
        assert.ok((await listKeys(bucket)).includes(`new-${round}`));
        assert.equal((await bucket.head('large'))?.size, large.length);
      }
      assert.equal(proxy.connections - before, 0);
    });

    on('ends immediately when its caller aborts', async ({ bucket, proxy }) => {
      await withObject(bucket);
      proxy.inject(() => ({ kind: 'hang' }));
      const controller = new AbortController();
      const { signal } = controller;
      const waiting = [
        bucket.head('there', { signal }),
        bucket.get('there', { signal }),
        bucket.put('x', Buffer.from('x'), { signal }),
      ];
      setTimeout(() => {
        controller.abort();
      }, 50);
      for (const each of waiting) await assert.rejects(each, { code: 'aborted' });
    });

    on(
      'slows down until a rate-limited server accepts every request',
      async ({ bucket, proxy, subject }) => {
        proxy.limit(100, subject.throttled);
        const keys = Array.from({ length: 300 }, (_, index) => `many/${index}`);
        await mapConcurrent(keys, 64, (key) =>
          bucket.put(key, Buffer.from(key), { ifAbsent: true }),
        );
        assert.deepEqual(await listKeys(bucket), [...keys].sort());
      },
    );
  });
}

function without(headers: WholeAnswer['headers'], name: string): WholeAnswer['headers'] {
  return Object.fromEntries(Object.entries(headers).filter((header) => header[0] !== name));
}
