import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openCache } from '../../../core/cache/open-cache.ts';
import { listKeys } from '../../support/bytes.ts';
import { makeSmallCache } from '../../support/small-cache.ts';
import { serveFolder } from '../../support/static-server.ts';

test('a configuration that came over HTTP does not choose which directory of this machine is written to', async (t) => {
  const cache = await makeSmallCache(t);
  const server = await serveFolder(cache.directory);
  t.after(() => server.close());
  await assert.rejects(openCache(server.url), { code: 'usage' });
  // Whoever names the directory itself means it.
  const opened = await openCache(cache.url);
  assert.deepEqual(await listKeys(opened.private), await listKeys(cache.bucket));
});
