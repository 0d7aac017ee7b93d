import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { rootOf } from '../../../core/cache/layout.ts';
import type { CacheBuckets } from '../../../core/cache/layout.ts';
import { forEachRoot } from '../../../core/cache/roots.ts';
import { tryUploaderRights } from '../../../core/cache/uploader-rights.ts';
import { NicheError } from '../../../core/errors.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { listKeys } from '../../support/assert/bytes.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';

const denied = (): never => {
  throw new NicheError('storage-denied', 'the credentials do not allow this');
};

/** Returns the roots of an administrator, and of a client that may only create in staging. */
function openRoots(): { administrator: CacheBuckets; client: CacheBuckets } {
  const administrator = forEachRoot(() => memoryBucket());
  const closed = (bucket: Bucket): Bucket => ({
    ...bucket,
    put: async () => Promise.resolve().then(denied),
    delete: async () => Promise.resolve().then(denied),
    get: async () => Promise.resolve().then(denied),
  });
  const { staging } = administrator;
  const client = {
    public: closed(administrator.public),
    private: closed(administrator.private),
    staging: {
      ...closed(staging),
      get: async (...request: Parameters<Bucket['get']>) => staging.get(...request),
      put: (async (key, body, options) =>
        options?.ifAbsent === true ? staging.put(key, body, options) : denied()) as Bucket['put'],
    },
  };
  return { administrator, client };
}

describe('credentials for clients', () => {
  it('are tried on each root, and leave nothing behind', async () => {
    const { administrator, client } = openRoots();
    const rights = await tryUploaderRights(client, administrator);
    assert.deepEqual(rights, { overwrite: false, read: true, list: true, delete: false });
    for (const bucket of Object.values(administrator)) assert.deepEqual(await listKeys(bucket), []);
  });

  it('are refused when they write to the public or the private root', async () => {
    for (const root of ['public', 'private'] as const) {
      const { administrator, client } = openRoots();
      const open = { ...client, [root]: administrator[root] };
      await assert.rejects(tryUploaderRights(open, administrator), {
        code: 'unsafe-credentials',
        message: new RegExp(`the ${root} root`),
      });
      assert.deepEqual(await listKeys(administrator[root]), []);
    }
  });

  it('are refused for any right of its own, and leave nothing behind', async () => {
    const keys = /^(?:pending|waiting|blocked|audit|attempts|publishers|nar|log)\//;
    for (const right of ['put', 'delete', 'get'] as const) {
      for (const prefix of ['publishers/', 'blocked/', 'audit/', 'nar/', 'log/']) {
        const { administrator, client } = openRoots();
        const root = rootOf(prefix) as 'public' | 'private';
        if (root === 'public' && right === 'get') continue;
        /** Only this right, and only below this prefix. */
        const only = (closed: Bucket, open: Bucket): Bucket => {
          const at = (key = ''): Bucket => (key.startsWith(prefix) ? open : closed);
          const rights: Pick<Bucket, 'put' | 'delete' | 'get'> = {
            put: async (key, body, options) => at(key).put(key, body, options),
            delete: async (keys) => at(keys[0]).delete(keys),
            get: async (key) => at(key).get(key),
          };
          return { ...closed, [right]: rights[right] };
        };
        const open = { ...client, [root]: only(client[root], administrator[root]) };
        await assert.rejects(
          tryUploaderRights(open, administrator),
          { code: 'unsafe-credentials' },
          `${right} ${prefix}`,
        );
        const left = await listKeys(administrator[root]);
        assert.deepEqual(
          left.filter((key) => keys.test(key)),
          [],
          `${right} ${prefix}`,
        );
      }
    }
  });

  it('are refused when the storage does not plainly deny a write', async () => {
    const { administrator, client } = openRoots();
    const put = (): Promise<never> => Promise.reject(new NicheError('storage-unavailable', 'down'));
    const unclear = { ...client, private: { ...client.private, put } };
    await assert.rejects(tryUploaderRights(unclear, administrator), { code: 'unsafe-credentials' });
  });

  it('may become active only after a while, when they are new', async () => {
    const { administrator, client } = openRoots();
    /** Credentials that are denied everything until `activeAfterMs`. */
    const tryNew = async (activeAfterMs: number, delayMs: number) => {
      let nowMs = 0;
      const sleep = (ms: number): Promise<void> => {
        nowMs += ms;
        return Promise.resolve();
      };
      const put: Bucket['put'] = async (key, body, options) =>
        nowMs < activeAfterMs ? denied() : client.staging.put(key, body, options);
      const staging = { ...client.staging, put };
      await tryUploaderRights({ ...client, staging }, administrator, { delayMs, sleep });
      return nowMs;
    };
    assert.equal(await tryNew(0, 60_000), 0);
    assert.equal(await tryNew(30_000, 60_000), 30_000);
    await assert.rejects(tryNew(61_000, 60_000), { code: 'storage-denied' });
    await assert.rejects(tryNew(1, 0), { code: 'storage-denied' });
  });
});
