import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { isNicheError } from '../../../core/errors.ts';
import type { NicheErrorCode } from '../../../core/errors.ts';
import {
  decryptDocument,
  encryptDocument,
  rewriteDocument,
} from '../../../core/secrets/document.ts';
import { ageIdentity } from '../../../core/secrets/age.ts';
import { fromPlain, toPlain } from '../../../core/secrets/json-tree.ts';
import type { JsonMap, JsonValue } from '../../../core/secrets/json-tree.ts';
import { wrapForAge } from '../../../core/secrets/age.ts';
import type { Identity, Keyring } from '../../../core/secrets/recipient.ts';
import { makeAgeKey } from '../../support/lab/sops-lab.ts';

const now = new Date('2026-03-04T05:06:07Z');
const tree = fromPlain({
  a: 'first',
  b: 'second',
  list: ['one', 'two'],
  nested: { a: 'third', n: 12 },
  note_unencrypted: 'readable',
}) as JsonMap;

const keyring: Pick<Keyring, 'wrap'> = {
  wrap: (recipient, dataKey) => {
    assert.equal(recipient.kind, 'age');
    return wrapForAge(recipient, dataKey);
  },
};
const key = await makeAgeKey();
const identities = identityOf(key.secretKey);
const document = await encryptDocument(
  { tree, now, recipients: [[{ kind: 'age', recipient: key.recipient }]] },
  keyring,
);

function identityOf(secretKey: string): Identity[] {
  return [
    ageIdentity(() => Promise.resolve({ secretKeys: [secretKey], sshKeys: [], tried: ['a test'] })),
  ];
}

type Sops = Record<string, unknown> & { age: { recipient: string; enc: string }[]; mac: string };
type Document = {
  sops: Sops;
  a: string;
  b: string;
  list: string[];
  nested: Record<string, string>;
} & Record<string, unknown>;

function without(object: object, name: string): object {
  return Object.fromEntries(Object.entries(object).filter(([each]) => each !== name));
}

/** The document after `change`, in the order that its members then have. */
function altered(change: (document: Document) => object | undefined): string {
  const copy = JSON.parse(document) as Document;
  return JSON.stringify(change(copy) ?? copy);
}

const cases: [name: string, code: NicheErrorCode | NicheErrorCode[], text: string][] = [
  ['a value of another path', 'altered-secrets', altered((d) => void (d.a = d.b))],
  [
    'a value of the same name elsewhere',
    'altered-secrets',
    altered((d) => void (d.nested['a'] = d.a)),
  ],
  ['two values exchanged', 'altered-secrets', altered((d) => void ([d.a, d.b] = [d.b, d.a]))],
  ['list items exchanged', 'altered-secrets', altered((d) => void d.list.reverse())],
  ['a list item left out', 'altered-secrets', altered((d) => void d.list.pop())],
  ['a list item twice', 'altered-secrets', altered((d) => void d.list.push(d.list[0]!))],
  ['a member renamed', 'altered-secrets', altered(({ a, ...rest }) => ({ c: a, ...rest }))],
  ['a member left out', 'altered-secrets', altered((d) => without(d, 'a'))],
  ['members reordered', 'altered-secrets', altered(({ a, b, ...rest }) => ({ b, a, ...rest }))],
  [
    'a readable value changed',
    'altered-secrets',
    altered((d) => void (d['note_unencrypted'] = 'x')),
  ],
  ['a readable value added', 'altered-secrets', altered((d) => ({ x_unencrypted: 'x', ...d }))],
  ['a value in the clear', 'malformed-secrets', altered((d) => void (d.a = 'first'))],
  ['a number in the clear', 'malformed-secrets', altered((d) => ({ ...d, a: 1 }))],
  [
    'its type changed',
    'altered-secrets',
    altered((d) => void (d.a = d.a.replace('type:str', 'type:int'))),
  ],
  [
    'of a type that there is not',
    'altered-secrets',
    altered((d) => void (d.a = d.a.replace('type:str', 'type:blob'))),
  ],
  ['something behind it', 'malformed-secrets', altered((d) => void (d.a += 'x'))],
  ['another MAC', 'altered-secrets', altered((d) => void (d.sops.mac = d.a))],
  ['no MAC', 'altered-secrets', altered((d) => void (d.sops.mac = ''))],
  [
    'another time',
    'altered-secrets',
    altered((d) => void (d.sops['lastmodified'] = '2026-03-04T05:06:08Z')),
  ],
  [
    'no time',
    'malformed-secrets',
    altered((d) => ({ ...d, sops: without(d.sops, 'lastmodified') })),
  ],
  [
    'another scope of the MAC',
    'altered-secrets',
    altered((d) => void (d.sops['mac_only_encrypted'] = true)),
  ],
  [
    'another rule',
    ['altered-secrets', 'malformed-secrets'],
    altered((d) => void (d.sops['unencrypted_suffix'] = 'a')),
  ],
  ['two rules', 'malformed-secrets', altered((d) => void (d.sops['encrypted_regex'] = 'a'))],
  [
    'a rule that is none',
    'malformed-secrets',
    altered((d) => {
      delete d.sops['unencrypted_suffix'];
      d.sops['encrypted_regex'] = '(';
      return d;
    }),
  ],
  ['nobody to read it', 'malformed-secrets', altered((d) => void (d.sops.age = []))],
  [
    'a damaged data key',
    'identity-failed',
    altered((d) => void (d.sops.age[0]!.enc = damageMiddle(d.sops.age[0]!.enc))),
  ],
  [
    'a data key that is no age file',
    'identity-failed',
    altered((d) => void (d.sops.age[0]!.enc = 'x')),
  ],
  ['a newer SOPS', 'newer-version', altered((d) => void (d.sops['version'] = '4.0.0'))],
  ['a version that is none', 'malformed-secrets', altered((d) => void (d.sops['version'] = 4))],
  ['no sops member', 'malformed-secrets', altered((d) => without(d, 'sops'))],
  ['a list', 'malformed-secrets', '[]'],
  ['nothing', 'malformed-secrets', ''],
  ['something behind the document', 'malformed-secrets', `${document}x`],
  ['a member twice', 'malformed-secrets', document.replace('"a":', '"a": "", "a":')],
];

function damageMiddle(armored: string): string {
  const lines = armored.split('\n');
  const line = lines[3] ?? '';
  lines[3] = `${line.startsWith('A') ? 'B' : 'A'}${line.slice(1)}`;
  return lines.join('\n');
}

for (const [name, code, text] of cases) {
  test(`an altered document is refused: ${name}`, async () => {
    await refusesDocument(text, [code].flat());
  });
}

async function refusesDocument(text: string, codes: readonly NicheErrorCode[]): Promise<void> {
  await assert.rejects(decryptDocument(text, identities, 'it'), (error) => {
    assert.ok(isNicheError(error, ...codes), String(error));
    // No failure contains a secret.
    assert.doesNotMatch(
      JSON.stringify([error.message, error.hint]),
      /first|second|third|AGE-SECRET/,
    );
    return true;
  });
}

test('refuses a document that ends early, at any byte', async () => {
  for (let length = 0; length < document.trimEnd().length; length += 7) {
    await refusesDocument(document.slice(0, length), ['malformed-secrets']);
  }
});

test('refuses a changed character of an encrypted value or of the MAC', async () => {
  const places = [...document.matchAll(/ENC\[[^\]]+\]/g)].flatMap(({ index, 0: found }) =>
    Array.from({ length: found.length }, (_, offset) => index + offset),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...places),
      fc.constantFrom('A', 'Z', 'a', 'z', '0', '9', '+', '/', '=', ']'),
      async (at, to) => {
        fc.pre(document[at] !== to);
        await refusesDocument(document.slice(0, at) + to + document.slice(at + 1), [
          'altered-secrets',
          'malformed-secrets',
        ]);
      },
    ),
    { numRuns: 300 },
  );
});

test('reports the recipients and the tried identities when no identity fits', async () => {
  const other = await makeAgeKey();
  await assert.rejects(decryptDocument(document, identityOf(other.secretKey), 'it'), (error) => {
    assert.ok(isNicheError(error, 'no-identity'));
    assert.ok(error.message.includes(key.recipient) && error.message.includes('a test'));
    return true;
  });
});

const leaf = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.boolean(),
  fc.constant(null),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
);
const value = fc.letrec<{ value: JsonValue }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leaf,
    fc.array(tie('value'), { maxLength: 4 }),
    fc
      .array(fc.tuple(fc.string({ unit: 'grapheme' }), tie('value')), { maxLength: 4 })
      .map((members) => new Map(members)),
  ),
})).value;
const map = fc
  .array(
    fc.tuple(
      fc.string().filter((name) => name !== 'sops'),
      value,
    ),
    { maxLength: 5 },
  )
  .map((members) => new Map(members));

test('decrypts every document that it encrypts, also after a rewrite', async () => {
  await fc.assert(
    fc.asyncProperty(map, async (plain) => {
      const text = await encryptDocument(
        { tree: plain, now, recipients: [[{ kind: 'age', recipient: key.recipient }]] },
        keyring,
      );
      const opened = await decryptDocument(text, identities, 'it');
      assert.deepEqual(wellFormed(opened.tree as JsonValue), wellFormed(plain));
      const again = await decryptDocument(rewriteDocument(opened, now), identities, 'it');
      assert.deepEqual(again.tree, opened.tree);
    }),
    { numRuns: 60 },
  );
});

/** Returns comparable text: strings as UTF-8 keeps them, and 0 for -0, as in JSON integers. */
function wellFormed(value: JsonValue): unknown {
  return JSON.stringify(toPlain(value), (_, inner: unknown) =>
    typeof inner === 'string'
      ? inner.toWellFormed()
      : typeof inner === 'bigint'
        ? `${inner}n`
        : inner,
  );
}
