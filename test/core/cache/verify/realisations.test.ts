import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  auditPrefix,
  blockedKey,
  cacheInfoKey,
  narInfoKey,
} from '../../../../core/cache/layout.ts';
import { formatRealisationManifest } from '../../../../core/cache/manifest.ts';
import type { Finding } from '../../../../core/cache/verify/finding.ts';
import { verifyCache } from '../../../../core/cache/verify/verify.ts';
import type { VerifyReport } from '../../../../core/cache/verify/verify.ts';
import { realisationLayouts } from '../../../../core/nix/realisation.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys, readObject } from '../../../support/assert/bytes.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { inventedPath, testPath } from '../../../support/cache/paths.ts';

const out = await testPath('a');
const realisation = {
  drvHash: `sha256:${'ab'.repeat(32)}`,
  drvPath: inventedPath('a.drv'),
  output: 'out',
  outPath: out.info.path,
};
const keys = realisationLayouts.map(({ keyOf }) => keyOf(realisation));

async function goodCache(): Promise<TestCache> {
  const cache = createTestCache();
  await cache.public.put(cacheInfoKey, Buffer.from('StoreDir: /nix/store\n'));
  await cache.publish(await cache.stage([out]));
  await cache.publish(await cache.stageRaw(formatRealisationManifest([realisation]), null));
  return cache;
}

async function verify(cache: TestCache): Promise<{ report: VerifyReport; findings: Finding[] }> {
  const findings: Finding[] = [];
  const report = await verifyCache({
    reader: cache.public,
    private: cache.private,
    storeDir: '/nix/store',
    publicKeys: cache.config.publicKeys,
    upstreams: cache.upstreams,
    selection: { all: cache.public },
    onFinding: (finding) => findings.push(finding),
  });
  return { report, findings };
}

/** Returns the subject and the code of each finding, sorted. */
async function found(cache: TestCache): Promise<string[]> {
  const { findings } = await verify(cache);
  return findings.map(({ subject, code }) => `${subject} ${code}`).sort();
}

test('published realisations have no findings', async () => {
  const { report, findings } = await verify(await goodCache());
  assert.deepEqual(findings, []);
  assert.deepEqual([report.paths, report.realisations, report.audited], [1, 2, true]);
});

test('a realisation that was changed, or not signed by the cache, is found', async () => {
  const cache = await goodCache();
  const [first = '', second = ''] = keys;
  const text = String(await readObject(cache.public, first));
  await cache.public.put(first, Buffer.from(text.replace(/"outPath":"./, '"outPath":"0')));
  await cache.public.put(second, Buffer.from('damage'));
  assert.deepEqual(await found(cache), [`${second} unsigned`, `${first} unsigned`].sort());
});

test('a realisation whose output is missing or blocked is found', async () => {
  const cache = await goodCache();
  const hash = storeHash(out.info.path);
  await cache.public.delete([narInfoKey(hash)]);
  assert.deepEqual(await found(cache), keys.map((key) => `${key} missing-reference`).sort());
  await cache.private.put(blockedKey(hash), Buffer.from('{}'));
  assert.deepEqual(await found(cache), keys.map((key) => `${key} blocked-but-visible`).sort());
});

test('a signature without an audit record is found', async () => {
  const cache = await goodCache();
  for (const key of await listKeys(cache.private, auditPrefix)) {
    const text = String(await readObject(cache.private, key));
    if (text.includes('"realisation"')) await cache.private.delete([key]);
  }
  assert.deepEqual(await found(cache), [
    `${out.info.path} missing-audit`,
    `${out.info.path} missing-audit`,
  ]);
});
