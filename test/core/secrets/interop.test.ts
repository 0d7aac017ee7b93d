import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  decryptDocument,
  encryptDocument,
  rewriteDocument,
} from '../../../core/secrets/document.ts';
import { fromPlain, toPlain } from '../../../core/secrets/json-tree.ts';
import type { JsonMap, JsonValue } from '../../../core/secrets/json-tree.ts';
import type { Recipient } from '../../../core/secrets/recipient.ts';
import { makeAgeKey, needSops, openSopsLab } from '../../support/lab/sops-lab.ts';

const plain = {
  version: 1,
  '2': 'a name that is a number',
  '1': 'comes after it',
  list: ['b', 'a', { deep: [true, false, null] }],
  empty: '',
  none: {},
  nothing: [],
  numbers: [0, -1, 1.5, 1e21, 9007199254740991, 1e-7, 123456789.125],
  'with:colon': { 'ünï "quoted"\n': 'ü€😀\u0000\u2028 \t\\' },
  plain_unencrypted: { inside: 'readable' },
};
const text = JSON.stringify(plain);
const tree = fromPlain(plain) as JsonMap;
const now = new Date('2026-03-04T05:06:07.890Z');

const cases = [
  { name: 'age', age: 1, pgp: 0 },
  { name: 'PGP', age: 0, pgp: 1 },
  { name: 'age and PGP, of which only age is here', age: 2, pgp: 0 },
  { name: 'age and PGP', age: 1, pgp: 1 },
];

for (const { name, age, pgp } of cases) {
  test(`sops and niche read each other’s documents: ${name}`, needSops(), async (t) => {
    const lab = await openSopsLab(t);
    const keys = await Promise.all(Array.from({ length: age }, makeAgeKey));
    const fingerprints: string[] = [];
    for (let index = 0; index < pgp; index += 1)
      fingerprints.push(await lab.makePgpKey(`k${index}`));
    const env: Record<string, string> = keys[0] ? { SOPS_AGE_KEY: keys[0].secretKey } : {};
    const recipients: Recipient[] = [
      ...keys.map(({ recipient }): Recipient => ({ kind: 'age', recipient })),
      ...fingerprints.map((fingerprint): Recipient => ({ kind: 'pgp', fingerprint })),
    ];
    const keyring = lab.keyring(env);

    const ours = await encryptDocument({ tree, recipients: [recipients], now }, keyring);
    assert.deepEqual(await lab.sopsDecrypt(ours, env), plain);
    const opened = await decryptDocument(ours, keyring.identities, 'ours');
    assert.deepEqual(toPlain(opened.tree as JsonValue), plain);

    const theirs = await lab.sopsEncrypt(text, [
      ...(keys.length > 0 ? ['--age', keys.map(({ recipient }) => recipient).join(',')] : []),
      ...(pgp > 0 ? ['--pgp', fingerprints.join(',')] : []),
    ]);
    const read = await decryptDocument(theirs, keyring.identities, 'theirs');
    assert.deepEqual(toPlain(read.tree as JsonValue), plain);
    assert.deepEqual([...read.tree.keys()], [...tree.keys()], 'in the order of the document');

    // sops reads its own document after a change by niche.
    const changed = rewriteDocument({ ...read, tree: new Map([...tree, ['more', 'x']]) }, now);
    assert.deepEqual(await lab.sopsDecrypt(changed, env), { ...plain, more: 'x' });
  });
}
