import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readConfig } from '../../../core/cache/config.ts';
import { manifestKey } from '../../../core/cache/layout.ts';
import type { BatchId } from '../../../core/cache/layout.ts';
import { createUpstreams } from '../../../core/cache/upstreams.ts';
import { parseS3Url } from '../../../core/storage/s3/url.ts';
import { receiptOf, stage } from './staged.ts';
import { requireAws } from '../../support/servers/aws-cache.ts';
import type { AwsCache } from '../../support/servers/aws-cache.ts';
import { checkInvariants } from '../../support/cache/invariants.ts';
import { testPath } from '../../support/cache/paths.ts';
import { until } from '../../support/assert/until.ts';

describe('the deployed functions', () => {
  test('handle repeated, unordered and malformed events', async (t) => {
    const aws = await requireAws(t);
    if (!aws) return;
    const parameters = { timeLimit: 60, visibility: 70, bytesPerSecond: 20_000 };
    const cache = await aws.cache('main', { parameters, storeDir: '/nix/store' });

    // Delivers the dependent first, and every event twice.
    const library = await testPath('library');
    const tool = await testPath('tool', { references: [library] });
    const first = await stage(cache, tool);
    await receiptOf(cache, first, tool, 'waiting');
    const second = await stage(cache, library);
    for (const id of [first, second, second]) await cache.send(s3Event(cache, id));
    await receiptOf(cache, second, library, 'published');
    await receiptOf(cache, first, tool, 'published');

    // A path that exceeds the time limit is rejected. A malformed event is reported.
    const large = await testPath('large', { contents: 'x'.repeat(2_000_000) });
    const third = await stage(cache, large);
    assert.equal((await receiptOf(cache, third, large, 'rejected')).code, 'too-large');
    await cache.send(JSON.stringify({ Event: 's3:TestEvent', Bucket: 'x' }));
    await cache.send('{"niche":1}');
    await until('it was reported', () =>
      Promise.resolve(aws.output().includes('"code":"malformed-event"')),
    );
    await cache.invoke('sweep');
    await assert.rejects(
      cache.invoke('publish', { some: 'thing' }),
      /reading an event: expected a notification/,
    );

    const { publicKeys } = await readConfig(cache.public);
    const upstreams = createUpstreams([], '/nix/store');
    await checkInvariants({ ...cache, publicKeys, upstreams });
  });
});

function s3Event(cache: AwsCache, id: BatchId): string {
  const { bucket } = parseS3Url(cache.stack.outputs['StagingStorage'] ?? '');
  const s3 = { bucket: { name: bucket }, object: { key: manifestKey(id) } };
  return JSON.stringify({ Records: [{ eventName: 'ObjectCreated:Put', s3 }] });
}
