import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isCompletePath } from '../../../../core/cache/complete-path.ts';
import { formatRealisationManifest } from '../../../../core/cache/manifest.ts';
import { readUploadStatus } from '../../../../core/cache/status/status.ts';
import { parsePublicKey } from '../../../../core/nix/keys.ts';
import { lastRealisationKey, realisationName } from '../../../../core/nix/realisation.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import { inventedPath, testPath } from '../../../support/cache/paths.ts';

test('the status of an upload includes its realisations, if the cache confirms them', async () => {
  const cache = createTestCache();
  const keys = cache.config.publicKeys.map(parsePublicKey);
  const out = await testPath('a');
  const realisation = {
    drvHash: `sha256:${'ab'.repeat(32)}`,
    drvPath: inventedPath('a.drv'),
    output: 'out',
    outPath: out.info.path,
  };
  const name = realisationName(realisation);
  const id = await cache.stageRaw(formatRealisationManifest([realisation]), null);
  const staged = (await readUploadStatus(cache, id.upload, keys))?.staged;
  assert.deepEqual(staged?.[0]?.paths, [name]);
  await cache.publish(await cache.stage([out]));
  await cache.publish(id);
  const read = async (): Promise<unknown[]> =>
    ((await readUploadStatus(cache, id.upload, keys))?.receipts ?? []).map((receipt) => [
      ...[receipt.path, receipt.status],
      receipt.unconfirmed ?? null,
    ]);
  assert.deepEqual(await read(), [[name, 'published', null]]);
  assert.equal(await isCompletePath(cache, name, keys), true);
  const key = lastRealisationKey(name);
  await cache.public.delete([key]);
  assert.deepEqual(await read(), [[name, 'published', `${key} is missing`]]);
  assert.equal(await isCompletePath(cache, name, keys), false);
});
