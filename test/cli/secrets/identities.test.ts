import assert from 'node:assert/strict';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import fc from 'fast-check';

import { openKeyring } from '../../../cli/secrets/identities.ts';
import { splitWords } from '../../../core/util/shell.ts';
import { isNicheError } from '../../../core/errors.ts';
import { decryptDocument, encryptDocument } from '../../../core/secrets/document.ts';
import { fromPlain } from '../../../core/secrets/json-tree.ts';
import type { JsonMap } from '../../../core/secrets/json-tree.ts';
import { makeAgeKey, openSopsLab } from '../../support/lab/sops-lab.ts';

const tree = fromPlain({ secret: 'x' }) as JsonMap;
const now = new Date('2026-03-04T05:06:07Z');

test('finds an age key in every place that sops searches', async (t) => {
  const lab = await openSopsLab(t);
  const { secretKey, recipient } = await makeAgeKey();
  const other = await makeAgeKey();
  const recipients = [[{ kind: 'age', recipient } as const]];
  const document = await encryptDocument({ tree, now, recipients }, lab.keyring());
  const opens = async (env: Record<string, string>, platform?: NodeJS.Platform): Promise<void> => {
    const { identities } = openKeyring({ ...lab.env, ...env }, undefined, platform);
    assert.deepEqual((await decryptDocument(document, identities, 'it')).tree, tree);
  };
  const keyFile = `# a comment\n\n${other.secretKey}\n${secretKey}\n`;

  await opens({ SOPS_AGE_KEY: secretKey });
  await opens({ SOPS_AGE_KEY: `${other.secretKey} ${secretKey}\n` });

  const file = join(lab.folder, 'keys');
  await writeFile(file, keyFile);
  await opens({ SOPS_AGE_KEY_FILE: file });
  await opens({ SOPS_AGE_KEY_CMD: `cat '${file}'` });

  const command = join(lab.folder, 'my command');
  await writeFile(command, `#!/bin/sh\ntest "$SOPS_AGE_RECIPIENT" = ${recipient} && cat ${file}\n`);
  await chmod(command, 0o755);
  await opens({ SOPS_AGE_KEY_CMD: `"${command}"` });

  const xdg = join(lab.folder, 'xdg');
  await mkdir(join(xdg, 'sops/age'), { recursive: true });
  await writeFile(join(xdg, 'sops/age/keys.txt'), keyFile);
  await opens({ XDG_CONFIG_HOME: xdg });
  await opens({ XDG_CONFIG_HOME: xdg }, 'darwin');

  for (const [platform, folder] of [
    ['linux', '.config'],
    ['darwin', 'Library/Application Support'],
  ] as const) {
    const home = join(lab.folder, platform);
    await mkdir(join(home, folder, 'sops/age'), { recursive: true });
    await writeFile(join(home, folder, 'sops/age/keys.txt'), keyFile);
    await opens({ HOME: home }, platform);
  }
});

test('finds SSH keys in the home folder', async (t) => {
  const lab = await openSopsLab(t);
  const ssh = join(lab.env['HOME'] ?? '', '.ssh');
  await mkdir(ssh);
  await lab.run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(ssh, 'id_ed25519')]);
  const recipient = (await lab.run('cat', [join(ssh, 'id_ed25519.pub')])).trim();
  const recipients = [[{ kind: 'age', recipient } as const]];
  const document = await encryptDocument({ tree, now, recipients }, lab.keyring());
  assert.deepEqual((await decryptDocument(document, lab.keyring().identities, 'it')).tree, tree);

  await lab.run('ssh-keygen', [
    '-q',
    '-p',
    '-P',
    '',
    '-N',
    'secret',
    '-f',
    join(ssh, 'id_ed25519'),
  ]);
  await assert.rejects(
    decryptDocument(document, lab.keyring().identities, 'it'),
    (error) =>
      isNicheError(error, 'no-identity') && error.message.includes('id_ed25519: protected'),
  );
});

test('lists the sources without a usable key, but prints no key', async (t) => {
  const lab = await openSopsLab(t);
  const { recipient } = await makeAgeKey();
  const other = await makeAgeKey();
  const document = await encryptDocument(
    { tree, now, recipients: [[{ kind: 'age', recipient }]] },
    lab.keyring(),
  );
  const locked = join(lab.folder, 'locked');
  await writeFile(locked, 'age-encryption.org/v1\n-> scrypt …\n');
  const env = {
    SOPS_AGE_KEY: `${other.secretKey} AGE-PLUGIN-YUBIKEY-1XYZ`,
    SOPS_AGE_KEY_FILE: locked,
    SOPS_AGE_KEY_CMD: 'false',
    SOPS_AGE_SSH_PRIVATE_KEY_CMD: '/nonexistent/command',
  };
  await assert.rejects(decryptDocument(document, lab.keyring(env).identities, 'it'), (error) => {
    assert.ok(isNicheError(error, 'no-identity'), String(error));
    for (const said of [
      recipient,
      'SOPS_AGE_KEY: 1 age key, 1 of age plugins',
      'SOPS_AGE_KEY_FILE: protected by a passphrase',
      'SOPS_AGE_KEY_CMD: the command exited with status 1',
      'SOPS_AGE_SSH_PRIVATE_KEY_CMD: spawn',
      '.config/sops/age/keys.txt: missing',
      '.ssh/id_rsa: missing',
    ]) {
      assert.ok(error.message.includes(said), `${said} in ${error.message}`);
    }
    assert.doesNotMatch(error.message, /AGE-SECRET|YUBIKEY/);
    return true;
  });
});

test('splits a command line as a shell does', () => {
  assert.deepEqual(splitWords(`a  'b c' "d \\"e" f\\ g h'i'"j"`), [
    'a',
    'b c',
    'd "e',
    'f g',
    'hij',
  ]);
  assert.deepEqual(splitWords(`'' ""`), ['', '']);
  assert.deepEqual(splitWords('  '), []);
  assert.equal(splitWords(`a 'b`), null);
  fc.assert(
    fc.property(fc.array(fc.string()), (words) => {
      const quoted = words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
      assert.deepEqual(splitWords(quoted), words);
    }),
  );
});
