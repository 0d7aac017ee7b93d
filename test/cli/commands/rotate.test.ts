import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { encryptSecret } from '../../../core/cache/keys/create.ts';
import { writeObject } from '../../../core/cache/objects.ts';
import { formatSecretKey } from '../../../core/nix/keys.ts';
import { parseNarInfo } from '../../../core/nix/narinfo.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import { runCommand } from '../../support/lab/command.ts';
import { makeSmallCache } from '../../support/cache/small-cache.ts';
import { makeAgeKey, needSops, openSopsLab } from '../../support/lab/sops-lab.ts';

test(
  'rotates a key, signs published paths again, and retires the old key',
  needSops(),
  async (t) => {
    const lab = await openSopsLab(t);
    const small = await makeSmallCache(t);
    const { secretKey, recipient } = await makeAgeKey();
    const keyring = lab.keyring();
    const text = await encryptSecret(
      { version: 1, secretKeys: [formatSecretKey(small.secretKey)] },
      [{ kind: 'age', recipient }],
      keyring,
    );
    await writeObject(small.bucket, 'niche.signing.json', text);
    const env = { ...lab.env, SOPS_AGE_KEY: secretKey };
    const niche = (...args: string[]): ReturnType<typeof runCommand> =>
      runCommand([...args, '-u', small.url], { env });
    const file = join(small.directory, `${storeHash(small.storePath)}.narinfo`);
    const before = await readFile(file, 'utf8');
    const [oldName] = small.publicKey.split(':');

    // A key can be retired only if another key exists and no path depends on it.
    assert.match((await niche('key', 'retire', oldName!)).stderr, /no other key/);
    const rotated = await niche('key', 'rotate', '--json', '--key-name', 'next-2');
    assert.equal(rotated.status, 0, rotated.stderr);
    const { publicKey } = JSON.parse(rotated.stdout) as { publicKey: string };
    assert.match((await niche('key', 'rotate', '--key-name', 'next-2')).stderr, /already/);
    const inUse = await niche('key', 'retire', oldName!);
    assert.equal(inUse.status, 1);
    assert.ok(inUse.stderr.includes(small.storePath));

    const signed = await niche('resign', '--json');
    assert.equal(signed.status, 0, signed.stderr);
    assert.deepEqual(JSON.parse(signed.stdout), {
      ...{ signed: 1, complete: 0, unsignable: 0, changed: 0, blocked: 0, unverified: [] },
    });
    const after = await readFile(file, 'utf8');
    const added = after.split('\n').filter((line) => !before.includes(line));
    assert.equal(added.length, 1);
    assert.ok(added[0]?.startsWith('Sig: next-2:'));
    assert.equal(after.replace(`${added[0]!}\n`, ''), before, 'nothing else is touched');
    assert.equal(parseNarInfo(after).signatures.length, 2);

    // A second run has nothing to do.
    const again = JSON.parse((await niche('resign', '--json')).stdout) as Record<string, unknown>;
    assert.deepEqual([again['signed'], again['complete']], [0, 1]);

    const retired = await niche('key', 'retire', oldName!, '--json');
    assert.equal(retired.status, 0, retired.stderr);
    const { keepTrustedUntil } = JSON.parse(retired.stdout) as { keepTrustedUntil: string };
    const days = (Date.parse(keepTrustedUntil) - Date.now()) / 86_400_000;
    assert.ok(days > 28 && days <= 30, keepTrustedUntil);
    const config = JSON.parse(await readFile(join(small.directory, 'niche.json'), 'utf8')) as {
      publicKeys: string[];
    };
    assert.deepEqual(config.publicKeys, [publicKey]);
    const document = await readFile(join(small.directory, 'niche.signing.json'), 'utf8');
    const { secretKeys } = (await lab.sopsDecrypt(document, env)) as { secretKeys: string[] };
    assert.deepEqual(
      secretKeys.map((key) => key.split(':')[0]),
      ['next-2'],
    );
  },
);

test('resign does not sign paths without a valid signature', async (t) => {
  const lab = await openSopsLab(t);
  const small = await makeSmallCache(t);
  const file = join(small.directory, `${storeHash(small.storePath)}.narinfo`);
  const forged = (await readFile(file, 'utf8')).replace(/NarSize: \d+/, 'NarSize: 4096');
  await writeFile(file, forged);
  const keyFile = join(lab.folder, 'key');
  await writeFile(keyFile, formatSecretKey(small.secretKey));
  const args = ['resign', '-u', small.url, '--secret-key-file', keyFile];
  const { status, stderr } = await runCommand(args, { env: lab.env });
  assert.equal(status, 76, stderr);
  assert.match(stderr, /no valid signature by a key of the cache/);
  assert.equal(await readFile(file, 'utf8'), forged);
});
