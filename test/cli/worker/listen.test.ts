import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { InvalidArgumentError } from 'commander';

import { assertGuarded, parseListen, readWebhookSecrets } from '../../../cli/worker/listen.ts';
import { formatSecretKey } from '../../../core/nix/keys.ts';
import { openBucket } from '../../../core/storage/open/open-bucket.ts';
import { runCommand } from '../../support/lab/command.ts';
import { refuses } from '../../support/assert/refuses.ts';
import { makeSmallCache, temporaryFolder } from '../../support/cache/small-cache.ts';

describe('the address of a worker', () => {
  for (const [text, host, port] of [
    ['8080', '127.0.0.1', 8080],
    ['0.0.0.0:0', '0.0.0.0', 0],
    ['localhost:80', 'localhost', 80],
    ['[::1]:65535', '::1', 65535],
  ] as const) {
    test(text, () => {
      assert.deepEqual(parseListen(text), { host, port });
    });
  }

  test('is refused if it is invalid', () => {
    for (const text of [
      '',
      'host',
      'host:',
      ':8080',
      '1:2:3',
      '127.0.0.1:65536',
      '[::1]',
      'h:-1',
    ]) {
      assert.throws(() => parseListen(text), InvalidArgumentError, text);
    }
  });

  test('must be a loopback address if there is no secret', () => {
    const none = { token: undefined, b2Secret: undefined };
    assertGuarded('127.0.0.9', none);
    assertGuarded('::1', none);
    assertGuarded('0.0.0.0', { ...none, token: 't' });
    assertGuarded('192.0.2.1', { ...none, b2Secret: 's' });
    for (const address of ['0.0.0.0', '::', '192.0.2.1']) {
      refuses('usage', () => {
        assertGuarded(address, none);
      });
    }
  });

  test('secrets are read from files, or else from the environment', async (t) => {
    const file = join(await temporaryFolder(t), 'secret');
    await writeFile(file, 'from file\n');
    const env = { NICHE_WEBHOOK_TOKEN: 'token', NICHE_B2_SIGNING_SECRET: 'b2' };
    assert.deepEqual(await readWebhookSecrets({}, env), { token: 'token', b2Secret: 'b2' });
    assert.deepEqual(await readWebhookSecrets({ tokenFile: file }, env), {
      token: 'from file',
      b2Secret: 'b2',
    });
    assert.deepEqual(await readWebhookSecrets({}, {}), { token: undefined, b2Secret: undefined });
    await writeFile(file, '\n');
    await assert.rejects(readWebhookSecrets({ tokenFile: file }, env), { code: 'usage' });
    await assert.rejects(readWebhookSecrets({ b2SecretFile: `${file}x` }, env), {
      code: 'storage-denied',
    });
  });

  test('niche worker refuses a public address without a secret', async (t) => {
    const cache = await makeSmallCache(t);
    const home = await temporaryFolder(t);
    const keyFile = join(home, 'key');
    await writeFile(keyFile, formatSecretKey(cache.secretKey), { mode: 0o600 });
    const { status, stderr } = await runCommand(
      ['worker', cache.url, '--listen', '0.0.0.0:0', '--secret-key-file', keyFile],
      { env: { HOME: home } },
    );
    assert.equal(status, 1);
    assert.match(stderr, /^niche: refusing to listen on "0\.0\.0\.0" without a secret/);
  });
});

test('a scheme without its slashes is reported', () => {
  assert.throws(
    () => openBucket('s3:acme'),
    (error: Error & { hint?: string }) => error.hint === 'write s3://acme',
  );
});
