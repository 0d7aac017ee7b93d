import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { formatConfig } from '../../../core/cache/config.ts';
import { openCache } from '../../../core/cache/open.ts';
import { toSecretTree } from '../../../core/cache/secret-documents.ts';
import { ageIdentity, wrapForAge } from '../../../core/secrets/age.ts';
import { encryptDocument } from '../../../core/secrets/document.ts';
import { listKeys } from '../../support/assert/bytes.ts';
import { serveAnswers } from '../../support/cache/http.ts';
import { makeSmallCache } from '../../support/cache/small-cache.ts';
import { makeAgeKey } from '../../support/lab/sops-lab.ts';
import { serveFolder } from '../../support/servers/static-server.ts';

test('a configuration that came over HTTP does not choose which directory of this machine is written to', async (t) => {
  const cache = await makeSmallCache(t);
  const server = await serveFolder(cache.directory);
  t.after(() => server.close());
  await assert.rejects(openCache(server.url), { code: 'usage' });
  // Whoever names the directory itself means it.
  const opened = await openCache(cache.url);
  assert.deepEqual(await listKeys(opened.private), await listKeys(cache.bucket));
});

/** A storage where every credential is refused; the access keys that it was shown. */
async function denyingStorage(t: TestContext): Promise<{ endpoint: string; seen: Set<string> }> {
  const seen = new Set<string>();
  const { url: endpoint } = await serveAnswers(t, (_, response, { headers }) => {
    seen.add(/Credential=([^/]+)/.exec(headers.authorization ?? '')?.[1] ?? 'none');
    response.writeHead(403).end();
  });
  return { endpoint, seen };
}

test('encrypted credentials go to the storage that they are encrypted with, whatever niche.json names', async (t) => {
  const cache = await makeSmallCache(t);
  const [named, meant] = [await denyingStorage(t), await denyingStorage(t)];
  const at = ({ endpoint }: typeof named) => ({
    storage: `s3://acme?region=us-east-1&endpoint=${endpoint}`,
    private: `s3://acme-private?region=us-east-1&endpoint=${endpoint}`,
  });
  const credentials = { kind: 's3', accessKeyId: 'encrypted', secretAccessKey: 'x' } as const;
  const { secretKey, recipient } = await makeAgeKey();
  const document = await encryptDocument(
    {
      tree: toSecretTree({ version: 1, ...at(meant), credentials }),
      recipients: [[{ kind: 'age', recipient }]],
      now: new Date(),
    },
    { wrap: (_, dataKey) => wrapForAge({ kind: 'age', recipient }, dataKey) },
  );
  const config = formatConfig({ ...cache.config, ...at(named) });
  await writeFile(join(cache.directory, 'niche.json'), config);
  await writeFile(join(cache.directory, 'niche.private.json'), document);

  const keys = { secretKeys: [secretKey], sshKeys: [], tried: [] };
  const opened = await openCache(cache.url, {
    // This machine has some of its own, for another account.
    hasCredentials: () => true,
    credentialsFor: () => ({ ...credentials, accessKeyId: 'own' }),
    identities: [ageIdentity(() => Promise.resolve(keys))],
  });
  for (const root of [opened.public, opened.private]) {
    await assert.rejects(root.head('key'), { code: 'storage-denied' });
  }
  assert.deepEqual([...named.seen], ['own']);
  assert.deepEqual([...meant.seen], ['encrypted']);
});
