import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { isNicheError } from '../../../core/errors.ts';
import { decryptDocument, encryptDocument } from '../../../core/secrets/document.ts';
import { fromPlain, toPlain } from '../../../core/secrets/json-tree.ts';
import type { JsonMap, JsonValue } from '../../../core/secrets/json-tree.ts';
import { makeAgeKey, needSops, openSopsLab } from '../../support/lab/sops-lab.ts';

const plain = { secret: 'of several', count: 3 };
const tree = fromPlain(plain) as JsonMap;
const now = new Date('2026-03-04T05:06:07Z');

for (const threshold of [2, 3]) {
  test(
    `three key groups, ${threshold} of them needed, both ways with the real sops`,
    needSops(),
    async (t) => {
      const lab = await openSopsLab(t);
      const [one, two, three] = [await makeAgeKey(), await makeAgeKey(), await makeAgeKey()];
      const fingerprint = await lab.makePgpKey('member');
      const keysOf = (...keys: { secretKey: string }[]): Record<string, string> => ({
        SOPS_AGE_KEY: keys.map(({ secretKey }) => secretKey).join('\n'),
      });

      const ours = await encryptDocument(
        {
          tree,
          now,
          threshold,
          recipients: [
            [{ kind: 'age', recipient: one.recipient }],
            [{ kind: 'age', recipient: two.recipient }],
            [
              { kind: 'pgp', fingerprint },
              { kind: 'age', recipient: three.recipient },
            ],
          ],
        },
        lab.keyring(),
      );
      const config = join(lab.folder, '.sops.yaml');
      await writeFile(
        config,
        JSON.stringify({
          creation_rules: [
            {
              shamir_threshold: threshold,
              key_groups: [
                { age: [one.recipient] },
                { age: [two.recipient] },
                { pgp: [fingerprint], age: [three.recipient] },
              ],
            },
          ],
        }),
      );
      const theirs = await lab.sopsEncrypt(JSON.stringify(plain), []);

      // gpg's key is always available. It is the third group.
      const enough = threshold === 2 ? [one] : [one, two];
      for (const document of [ours, theirs]) {
        const { identities } = lab.keyring(keysOf(...enough));
        const opened = await decryptDocument(document, identities, 'it');
        assert.deepEqual(toPlain(opened.tree as JsonValue), plain);
        assert.deepEqual(await lab.sopsDecrypt(document, keysOf(...enough)), plain);

        const tooFew = lab.keyring(threshold === 2 ? {} : keysOf(two));
        await assert.rejects(
          decryptDocument(document, tooFew.identities, 'it'),
          (error) =>
            isNicheError(error, 'no-identity') &&
            error.message.includes(`${threshold} of 3 groups`),
        );
      }
    },
  );
}

test('SSH keys as age recipients, both ways with the real sops', needSops(), async (t) => {
  const lab = await openSopsLab(t);
  for (const [type, ...options] of [
    ['ed25519'],
    ['rsa', '-b', '2048'],
    ['rsa', '-b', '2048', '-m', 'PEM'],
  ]) {
    const file = join(lab.folder, `key-${[type, ...options].join('')}`);
    await lab.run('ssh-keygen', ['-q', '-t', type!, ...options, '-N', '', '-f', file]);
    const recipient = (await lab.run('cat', [`${file}.pub`])).trim();
    const env = { SOPS_AGE_SSH_PRIVATE_KEY_FILE: file };
    const ours = await encryptDocument(
      { tree, now, recipients: [[{ kind: 'age', recipient }]] },
      lab.keyring(),
    );
    const theirs = await lab.sopsEncrypt(JSON.stringify(plain), ['--age', recipient]);
    for (const document of [ours, theirs]) {
      const opened = await decryptDocument(document, lab.keyring(env).identities, 'it');
      assert.deepEqual(toPlain(opened.tree as JsonValue), plain, type);
      assert.deepEqual(await lab.sopsDecrypt(document, env), plain, type);
      await assert.rejects(decryptDocument(document, lab.keyring().identities, 'it'), (error) =>
        isNicheError(error, 'no-identity'),
      );
    }
  }
});
