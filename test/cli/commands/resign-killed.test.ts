import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { formatConfig } from '../../../core/cache/config.ts';
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../../core/nix/keys.ts';
import { runCommand } from '../../support/lab/command.ts';
import { countResigned, writeNarInfos } from '../../support/cache/many-narinfos.ts';
import { spawnNiche } from '../../support/lab/niche-process.ts';
import { makeSmallCache, temporaryFolder } from '../../support/cache/small-cache.ts';

const count = 400;

test('resign finishes when it runs again after a kill', async (t) => {
  const small = await makeSmallCache(t, { name: 'old' });
  const next = generateSecretKey('next-2');
  const keyFile = join(await temporaryFolder(t), 'key');
  await writeFile(keyFile, formatSecretKey(next));
  const publicKeys = [...small.config.publicKeys, formatPublicKey(next.publicKey)];
  await writeFile(
    join(small.directory, 'niche.json'),
    formatConfig({ ...small.config, publicKeys }),
  );
  const before = await writeNarInfos(small.bucket, small.secretKey, count);
  const args = ['resign', '-u', small.url, '--secret-key-file', keyFile, '--json'];
  const look = async (): ReturnType<typeof countResigned> =>
    countResigned(small.bucket, before, 'next-2');

  const killed = spawnNiche(args, { env: { HOME: small.directory } });
  const { process: child } = killed;
  while (child.exitCode === null && (await look()).resigned === 0) await sleep(5);
  child.kill('SIGKILL');
  assert.equal((await killed.ended).signal, 'SIGKILL');
  const midway = await look();
  assert.deepEqual(midway.spoilt, []);
  assert.ok(midway.resigned > 0 && midway.untouched > 0, JSON.stringify(midway));

  const again = await runCommand(args);
  assert.equal(again.status, 0, again.stderr);
  const { signed, complete } = JSON.parse(again.stdout) as Record<string, number>;
  // The cache has one more path of its own.
  assert.equal((signed ?? 0) + (complete ?? 0), count + 1);
  assert.ok((complete ?? 0) >= midway.resigned);
  assert.deepEqual(await look(), { resigned: count, untouched: 0, spoilt: [] });
});
