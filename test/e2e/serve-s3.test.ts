import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { openBucket } from '../../core/storage/open/open-bucket.ts';
import { localTestPath, makeBucketCache } from '../support/cache/bucket-cache.ts';
import { runNiche, startNiche } from '../support/lab/niche-process.ts';
import { requireS3 } from '../support/servers/s3-servers.ts';
import { temporaryFolder } from '../support/cache/small-cache.ts';

describe('niche serve of a private bucket', () => {
  test('reads with the credentials of this machine', async (t) => {
    const server = await requireS3(t);
    if (server === null) return;
    const url = server.url(await server.createBucket('private'));
    const bucket = openBucket(url, { credentials: server.credentials });
    const cache = await makeBucketCache(bucket);
    const path = await localTestPath('path', [], Buffer.alloc(3 * 2 ** 20, 'contents'));
    await cache.publish(path);
    const denied = await fetch(`${server.endpoint}/private/niche.json`);
    assert.equal(denied.status, 403, 'the bucket is private');

    const home = await temporaryFolder(t);
    const env = { ...server.env, HOME: home };
    const niche = await startNiche(['serve', '-u', url, '--port', '0'], { env });
    t.after(() => niche.process.kill('SIGKILL'));
    const at = (key: string): string => `${niche.firstLine}/${key}`;
    const narInfo = await (await fetch(at(`${path.hash}.narinfo`))).text();
    const nar = /^URL: (.*)$/m.exec(narInfo)?.[1] ?? '';
    const whole = Buffer.from(await (await fetch(at(nar))).arrayBuffer());
    assert.equal(whole.length, Number(/^FileSize: (.*)$/m.exec(narInfo)?.[1]));
    const part = await fetch(at(nar), { headers: { range: 'bytes=10-29' } });
    assert.equal(part.status, 206);
    assert.ok(whole.subarray(10, 30).equals(Buffer.from(await part.arrayBuffer())));
    const head = await fetch(at(nar), { method: 'HEAD' });
    assert.equal(head.headers.get('content-length'), String(whole.length));
    assert.equal((await fetch(at(`${'0'.repeat(32)}.narinfo`))).status, 404);
    assert.equal((await fetch(at('staging/'))).status, 404);
    assert.equal((await niche.stop()).status, 0);

    const wrong = await runNiche(['serve', '-u', url, '--port', '0'], {
      env: { ...env, AWS_SECRET_ACCESS_KEY: 'wrong' },
    });
    assert.equal(wrong.status, 1);
    assert.equal(wrong.stdout, '');
    assert.doesNotMatch(wrong.stderr, /wrong|\n.*\n.*\n/, 'no secret, and few lines');
  });
});
