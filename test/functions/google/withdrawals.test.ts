import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { blockedKey, narInfoKey } from '../../../core/cache/layout.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import { readWithdrawal } from '../../../functions/google/events.ts';
import { formatJob } from '../../../functions/shared/job.ts';
import { testPath } from '../../support/cache/paths.ts';
import { createAdapterLab } from '../adapter-lab.ts';
import { googleAdapter } from '../google-adapter.ts';
import { pushBody } from '../google-events.ts';

describe('withdrawals on Google Cloud', () => {
  it('go from the publisher to the sweep', async () => {
    const lab = await createAdapterLab(googleAdapter);
    const hello = await testPath('hello');
    const hash = storeHash(hello.info.path);
    const publish = async (): Promise<string> =>
      lab.process().publish(lab.event(await lab.cache.stage([hello])));
    assert.equal(await publish(), 'done');

    // The administrator could not delete the narinfo, as it was created later.
    const record = { at: new Date().toISOString(), why: 'a test' };
    await lab.cache.private.put(blockedKey(hash), Buffer.from(JSON.stringify(record)));
    assert.equal(await publish(), 'done');
    assert.deepEqual(lab.queue, [formatJob({ kind: 'withdraw', storeHash: hash })]);
    assert.ok(await lab.cache.public.head(narInfoKey(hash)));
    await lab.drain();
    assert.equal(await lab.cache.public.head(narInfoKey(hash)), null);
  });

  it('are the only jobs of the sweep', async () => {
    const id = { upload: '0197cf0e-0000-7000-8000-000000000000', batch: 0 };
    const job = formatJob({ kind: 'publish', id, origin: { via: 'event' } });
    assert.throws(() => readWithdrawal(pushBody(job)), { code: 'malformed-event' });
    assert.throws(() => readWithdrawal({ message: {} }), { code: 'malformed-event' });
    const hash = storeHash((await testPath('hello')).info.path);
    const withdraw = { kind: 'withdraw', storeHash: hash } as const;
    assert.deepEqual(readWithdrawal(pushBody(formatJob(withdraw))), withdraw);
    // The scheduler sends no body.
    for (const body of [undefined, {}, Buffer.alloc(0)]) assert.equal(readWithdrawal(body), null);
  });
});
