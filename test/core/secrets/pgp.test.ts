import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { isNicheError } from '../../../core/errors.ts';
import type { NicheErrorCode } from '../../../core/errors.ts';
import { decryptDocument, encryptDocument } from '../../../core/secrets/document.ts';
import { fromPlain } from '../../../core/secrets/json-tree.ts';
import type { JsonMap } from '../../../core/secrets/json-tree.ts';
import { openSopsLab } from '../../support/lab/sops-lab.ts';
import type { SopsLab } from '../../support/lab/sops-lab.ts';

const tree = fromPlain({ secret: 'for a key in gpg' }) as JsonMap;
const now = new Date('2026-03-04T05:06:07Z');

async function encryptFor(lab: SopsLab, fingerprint: string): Promise<string> {
  const recipients = [[{ kind: 'pgp', fingerprint } as const]];
  return encryptDocument({ tree, now, recipients }, lab.keyring());
}

async function refused(work: Promise<unknown>, code: NicheErrorCode, text: RegExp): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.ok(isNicheError(error, code), String(error));
    assert.match(`${error.message} ${error.hint ?? ''}`, text);
    assert.doesNotMatch(error.message, /open sesame/);
    return true;
  });
}

/** A pinentry that answers with `answer` (a line of the Assuan protocol). */
async function usePinentry(lab: SopsLab, answer: string): Promise<void> {
  const program = join(lab.folder, 'pinentry');
  const script = `#!/bin/sh
echo "OK ready"
while read -r command rest; do
  case "$command" in
    GETPIN) printf '${answer}\\n' ;;
    BYE) echo OK; exit 0 ;;
    *) echo OK ;;
  esac
done
`;
  await writeFile(program, script);
  await chmod(program, 0o755);
  await writeFile(
    join(lab.env['HOME'] ?? '', '.gnupg/gpg-agent.conf'),
    `pinentry-program ${program}\n`,
  );
  await lab.run('gpgconf', ['--kill', 'gpg-agent']);
}

async function openWithPassphrase(t: TestContext): Promise<{ lab: SopsLab; document: string }> {
  const lab = await openSopsLab(t);
  const fingerprint = await lab.makePgpKey('locked', { passphrase: 'open sesame' });
  return { lab, document: await encryptFor(lab, fingerprint) };
}

test('decrypts with a passphrase from the agent', async (t) => {
  const { lab, document } = await openWithPassphrase(t);
  await usePinentry(lab, 'D open sesame\\nOK');
  const { tree: opened } = await decryptDocument(document, lab.keyring().identities, 'it');
  assert.deepEqual(opened, tree);
});

test('a wrong passphrase', async (t) => {
  const { lab, document } = await openWithPassphrase(t);
  await usePinentry(lab, 'D something else\\nOK');
  await refused(
    decryptDocument(document, lab.keyring().identities, 'it'),
    'identity-failed',
    /wrong passphrase/,
  );
});

test('an agent whose user refuses', async (t) => {
  const { lab, document } = await openWithPassphrase(t);
  await usePinentry(lab, 'ERR 83886179 Operation cancelled <Pinentry>');
  await refused(
    decryptDocument(document, lab.keyring().identities, 'it'),
    'identity-failed',
    /cancelled/,
  );
});

test('an agent without a pinentry', async (t) => {
  const { lab, document } = await openWithPassphrase(t);
  const config = join(lab.env['HOME'] ?? '', '.gnupg/gpg-agent.conf');
  await writeFile(config, 'pinentry-program /nonexistent\n');
  await lab.run('gpgconf', ['--kill', 'gpg-agent']);
  await refused(
    decryptDocument(document, lab.keyring().identities, 'it'),
    'identity-failed',
    /pinentry/,
  );
});

test('refuses a missing gpg, a key that is not public, and a damaged message', async (t) => {
  const lab = await openSopsLab(t);
  const fingerprint = await lab.makePgpKey('gone');
  const document = await encryptFor(lab, fingerprint);
  const without = lab.keyring({ SOPS_GPG_EXEC: '/nonexistent/gpg' });
  await refused(
    decryptDocument(document, without.identities, 'it'),
    'no-identity',
    /not installed/,
  );

  const damaged = document.replace(
    /(BEGIN PGP MESSAGE-----\\n\\n.{30})(.)/,
    (_, before: string, character: string) => `${before}${character === 'A' ? 'B' : 'A'}`,
  );
  assert.notEqual(damaged, document);
  await refused(
    decryptDocument(damaged, lab.keyring().identities, 'it'),
    'identity-failed',
    new RegExp(fingerprint),
  );

  await lab.gpg(['--yes', '--delete-secret-keys', fingerprint]);
  await refused(
    decryptDocument(document, lab.keyring().identities, 'it'),
    'no-identity',
    new RegExp(`pgp:${fingerprint}.*secret keys of gpg`),
  );
});

test('a recipient that is unknown, revoked or expired', async (t) => {
  const lab = await openSopsLab(t);
  await refused(encryptFor(lab, 'A'.repeat(40)), 'unusable-recipient', /no public key/);

  const expired = await lab.makePgpKey('expired');
  await lab.gpg(['--quick-set-expire', expired, 'seconds=1']);
  const revoked = await lab.makePgpKey('revoked');
  const before = await encryptFor(lab, revoked);
  const certificate = join(lab.env['HOME'] ?? '', `.gnupg/openpgp-revocs.d/${revoked}.rev`);
  await lab.run('sh', [
    '-c',
    `sed 's/^:-----/-----/' ${certificate} | gpg --batch --quiet --import`,
  ]);
  await refused(encryptFor(lab, revoked), 'unusable-recipient', /revoked/);
  // The holder of a revoked key can still decrypt older documents.
  await decryptDocument(before, lab.keyring().identities, 'it');

  // gpg's times are whole seconds.
  await sleep(2_000);
  await refused(encryptFor(lab, expired), 'unusable-recipient', /expired/);
});

test('a subkey by its own fingerprint', async (t) => {
  const lab = await openSopsLab(t);
  const fingerprint = await lab.makePgpKey('subkeys');
  const listed = await lab.gpg(['--with-colons', '--list-keys', fingerprint]);
  const subkey = [...listed.matchAll(/^fpr:+([0-9A-F]+):/gm)][1]?.[1] ?? '';
  assert.notEqual(subkey, '');
  const document = await encryptFor(lab, subkey);
  const { tree: opened } = await decryptDocument(document, lab.keyring().identities, 'it');
  assert.deepEqual(opened, tree);
});
