import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readConfig } from '../../../core/cache/config.ts';
import { manifestKey, narInfoKey } from '../../../core/cache/layout.ts';
import { openReader } from '../../../core/cache/open.ts';
import { listStatuses } from '../../../core/cache/receipts/listed-receipts.ts';
import { createUpstreams } from '../../../core/cache/upstreams.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import { createAdversity } from '../../support/servers/aws-adversity.ts';
import { requireAws } from '../../support/servers/aws-cache.ts';
import { listKeys } from '../../support/assert/bytes.ts';
import { checkInvariants } from '../../support/cache/invariants.ts';
import { testPath } from '../../support/cache/paths.ts';
import type { TestPath } from '../../support/cache/paths.ts';
import { until } from '../../support/assert/until.ts';
import { startFaultProxy } from '../../support/servers/fault-proxy.ts';
import type { Fault, ProxiedRequest } from '../../support/servers/fault-proxy.ts';
import { makeSmallCache } from '../../support/cache/small-cache.ts';
import { serveFolder } from '../../support/servers/static-server.ts';
import { auditedStatus } from './records.ts';
import { receiptOf, stage } from './staged.ts';

/** Timeouts in seconds: a hanging function is killed, and its message is redelivered soon after. */
const parameters = { timeLimit: 3, visibility: 4, maxReceives: 20 };

const unavailable: Fault = { kind: 'answer', status: 503 };
const throttled: Fault = {
  kind: 'answer',
  status: 400,
  headers: { 'content-type': 'application/x-amz-json-1.1' },
  body: '{"__type":"ThrottlingException","message":"Rate exceeded"}',
};

describe('the deployed functions, when things go wrong', () => {
  test('publish every publishable path, then stop', async (t) => {
    const aws = await requireAws(t);
    if (!aws) return;
    const elsewhere = await makeSmallCache(t);
    const origin = await serveFolder(elsewhere.directory);
    t.after(() => origin.close());
    const [upstream, between] = [
      await startFaultProxy(origin.url),
      await startFaultProxy(aws.endpoint),
    ];
    t.after(() => Promise.all([upstream.stop(), between.stop()]));
    const cache = await aws.cache('main', {
      parameters,
      storeDir: '/nix/store',
      init: ['--upstream', `${upstream.url}=${elsewhere.publicKey}`],
    });
    const adversity = createAdversity(aws, cache);
    await adversity.reachAwsAt(between.url);

    const killed = await testPath('killed');
    const before = await testPath('before');
    const poison = await testPath('poison');
    const after = await testPath('after');
    const throttles = await testPath('throttled');
    const dependent = await testPath('dependent', { references: [elsewhere.storePath] });
    const lost = await testPath('lost');
    const dead = await testPath('dead');

    // Kills the function after it wrote the NAR and the audit record, before the narinfo.
    let deaths = 0;
    between.inject((request) => {
      if (request.method !== 'PUT' || !isAbout(request, killed) || deaths > 0) return null;
      deaths += 1;
      adversity.killFunctions();
      return { kind: 'reset' };
    });
    const killedId = await stage(cache, killed);
    await until('the function was killed', () => Promise.resolve(deaths > 0));

    // The event for this batch is lost.
    const lostId = await adversity.withoutEvents(() => stage(cache, lost));

    // Requests for one path, and for one whole batch, hang until the function times out.
    let [isUpstreamDown, throttlesLeft] = [true, 3];
    let deadKey = '';
    between.inject((request) => {
      if (isAbout(request, poison)) return { kind: 'hang' };
      if (deadKey !== '' && request.path.includes(deadKey)) return { kind: 'hang' };
      if (request.headers['x-amz-target'] !== 'TrentService.Sign' || throttlesLeft === 0) {
        return null;
      }
      throttlesLeft -= 1;
      return throttled;
    });
    const reference = narInfoKey(storeHash(elsewhere.storePath));
    upstream.inject(({ path }) =>
      isUpstreamDown && path.includes(reference) ? unavailable : null,
    );
    const throttledId = await stage(cache, throttles);
    const poisonedId = await stage(cache, before, poison, after);
    const dependentId = await stage(cache, dependent);

    await receiptOf(cache, throttledId, throttles, 'published');
    assert.equal(throttlesLeft, 0);
    await until('the upstream was found down', () =>
      Promise.resolve(aws.output().includes('"code":"upstream-unavailable"')),
    );
    isUpstreamDown = false;
    await receiptOf(cache, killedId, killed, 'published');
    await receiptOf(cache, dependentId, dependent, 'published');
    // The attempt that timed out may have published these without writing receipts.
    await receiptOf(cache, poisonedId, before, 'published', 'exists');
    assert.equal((await receiptOf(cache, poisonedId, poison, 'rejected')).code, 'failed');
    await receiptOf(cache, poisonedId, after, 'published', 'exists');

    // A message whose receives end before its batch is rejected becomes a dead letter. After a fix and
    // a redrive, its batch is published.
    await adversity.setMaxReceives(2);
    const deadId = await adversity.withoutEvents(() => stage(cache, dead));
    deadKey = manifestKey(deadId);
    await cache.send(JSON.stringify({ niche: 1, publish: { ...deadId, via: 'event' } }));
    await until('it is a dead letter', async () => (await cache.messages()).dead === 1);
    await adversity.setMaxReceives(parameters.maxReceives);
    deadKey = '';
    assert.equal(await adversity.redrive(), 1);
    await receiptOf(cache, deadId, dead, 'published');

    // The sweep finds the batch without an event.
    assert.equal((await listStatuses(cache.staging, lostId.upload)).size, 0);
    await cache.invoke('sweep');
    await receiptOf(cache, lostId, lost, 'published');
    const records = await auditedStatus(cache);
    assert.equal(records.get(lost.info.path)?.origin?.via, 'sweep');
    assert.equal(records.get(after.info.path)?.origin?.via, 'event');

    assert.match(aws.output(), /timed out after 3s/);

    // The queue drains, and no temporary objects remain.
    await until('nothing is queued', async () => (await cache.messages()).queued === 0);
    assert.deepEqual(await cache.messages(), { queued: 0, dead: 0 });
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
    for (const prefix of ['pending/', 'waiting/']) {
      assert.deepEqual(await listKeys(cache.private, prefix), [], prefix);
    }
    // A function killed right after it removed a batch leaves its marker.
    // The sweep deletes the marker a week later.
    const killings = deaths + aws.output().split('timed out after 3s').length - 1;
    const markers = await listKeys(cache.private, 'attempts/');
    assert.ok(markers.length <= killings, markers.join('\n'));
    const { publicKeys, upstreams } = await readConfig(cache.public);
    await checkInvariants({
      ...cache,
      publicKeys,
      upstreams: createUpstreams(
        upstreams.map(({ url, publicKey }) => ({ reader: openReader(url), publicKey })),
        '/nix/store',
      ),
      rejected: [poison.info],
    });
  });
});

/** Returns whether the request is for the path's narinfo. */
function isAbout({ path }: ProxiedRequest, { info }: TestPath): boolean {
  return path.includes(narInfoKey(storeHash(info.path)));
}
