import assert from 'node:assert/strict';
import { test } from 'node:test';

import { findDependents, resignNarInfos } from '../../../../core/cache/keys/resign.ts';
import { formatRealisationManifest } from '../../../../core/cache/manifest.ts';
import { readRealisation } from '../../../../core/cache/read-realisation.ts';
import { parsePublicKey } from '../../../../core/nix/keys.ts';
import { realisationLayouts } from '../../../../core/nix/realisation.ts';
import { auditRecords, createTestCache, testSigner } from '../../../support/cache/kit.ts';
import { inventedPath, testPath } from '../../../support/cache/paths.ts';

test('re-signing adds the signatures of a new key to realisations, with audit records', async () => {
  const signers = [testSigner('test-1'), testSigner('test-2', 2)];
  const [old = '', added = ''] = signers.map(({ publicKey }) => publicKey);
  const cache = createTestCache();
  const out = await testPath('a');
  const realisation = {
    drvHash: `sha256:${'ab'.repeat(32)}`,
    drvPath: inventedPath('a.drv'),
    output: 'out',
    outPath: out.info.path,
  };
  await cache.publish(await cache.stage([out]));
  await cache.publish(await cache.stageRaw(formatRealisationManifest([realisation]), null));
  const config = { storeDir: '/nix/store', publicKeys: [old, added] };
  const keys = realisationLayouts.map(({ keyOf }) => keyOf(realisation));
  const options = { ...cache, config, signers, version: 'test' };

  assert.deepEqual(await findDependents(options, old), [out.info.path, ...keys]);
  const first = await resignNarInfos(options);
  assert.deepEqual([first.signed, first.complete, first.unverified], [3, 0, []]);
  for (const key of keys) {
    const trusted = { storeDir: '/nix/store', publicKeys: config.publicKeys.map(parsePublicKey) };
    const found = await readRealisation(cache.public, key, trusted);
    assert.equal(found.kind === 'found' && found.signatures.length, 2, key);
    const records = (await auditRecords(cache)).flatMap(({ signatures }) => signatures);
    for (const signature of found.kind === 'found' ? found.signatures : []) {
      assert.ok(records.includes(signature), signature);
    }
  }
  assert.deepEqual(await findDependents(options, old), []);

  await cache.public.put(keys[0] ?? '', Buffer.from('damage'));
  const again = await resignNarInfos(options);
  assert.deepEqual([again.signed, again.complete, again.unverified], [0, 2, [keys[0]]]);
});
