import assert from 'node:assert/strict';
import { test } from 'node:test';

import { openCacheAt, openReaderAt } from '../../../cli/cache/open.ts';
import type { Context } from '../../../cli/process/context.ts';
import { formatConfig } from '../../../core/cache/config.ts';
import { serveAnswers } from '../../support/cache/http.ts';
import { publicKeyOf, testKey } from '../../support/cache/kit.ts';
import { makeSmallCache } from '../../support/cache/small-cache.ts';

test('over plain HTTP a pinned key suffices for reading, not for writing', async (t) => {
  const { config, publicKey } = await makeSmallCache(t);
  const server = await serveAnswers(t, (path, response) => {
    if (path === 'niche.json') response.end(formatConfig(config));
    else response.writeHead(404).end();
  });
  // This machine, by an address that is no loopback address.
  const url = server.url.replace('127.0.0.1', '0.0.0.0');
  const context = { env: {}, secrets: {} } as Context;
  const pinned = { url, pinnedKeys: [publicKey] };
  assert.deepEqual((await openReaderAt(pinned, context)).config, config);
  await assert.rejects(openCacheAt(pinned, context), { code: 'insecure-url' });
  await assert.rejects(openReaderAt({ url, pinnedKeys: [] }, context), { code: 'usage' });
  const other = publicKeyOf(testKey('other-1'));
  await assert.rejects(openReaderAt({ url, pinnedKeys: [other] }, context), { code: 'wrong-key' });
});
