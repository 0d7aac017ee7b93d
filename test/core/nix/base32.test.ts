import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeBase32, encodeBase32 } from '../../../core/nix/base32.ts';
import { corpus, corpusMissing } from '../../support/assert/corpus.ts';
import { refuses } from '../../support/assert/refuses.ts';

const data = corpus();

test('encodes the SHA-256 of empty input like nix-hash', () => {
  const hex = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
  const text = '0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73';
  assert.equal(encodeBase32(Buffer.from(hex, 'hex')), text);
  assert.deepEqual(decodeBase32(text), new Uint8Array(Buffer.from(hex, 'hex')));
});

test('decodes any encoded bytes, and accepts only the canonical encoding', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
      const text = encodeBase32(bytes);
      assert.deepEqual(decodeBase32(text), bytes);
    }),
  );
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('0', '1', '2', 'f', 'z'), maxLength: 20 }),
      (text) => {
        try {
          assert.equal(encodeBase32(decodeBase32(text)), text);
        } catch (error) {
          refuses('malformed-base32', () => {
            throw error;
          });
        }
      },
    ),
  );
});

test('refuses impossible lengths, unused bits and other characters', () => {
  for (const text of [
    '0',
    '000',
    '8z',
    'zz',
    '0e',
    '0O',
    '0ż',
    '0\u0000',
    'AA',
    '0 ',
    ' 0',
    '0\n',
  ]) {
    refuses('malformed-base32', () => decodeBase32(text), JSON.stringify(text));
  }
});

test(
  'the corpus: accepts the same texts as nix-hash',
  { skip: data === null && corpusMissing },
  () => {
    const cases = JSON.parse(data!.read('storepath/base32.json').toString()) as {
      valid: { hex: string; nix32: string }[];
      invalid: (string | { nix32?: string; text?: string })[];
    };
    for (const { hex, nix32 } of cases.valid) {
      assert.equal(encodeBase32(Buffer.from(hex, 'hex')), nix32);
      assert.equal(Buffer.from(decodeBase32(nix32)).toString('hex'), hex);
    }
    for (const invalid of cases.invalid) {
      const text = typeof invalid === 'string' ? invalid : (invalid.nix32 ?? invalid.text);
      assert.ok(text !== undefined);
      refuses('malformed-base32', () => decodeBase32(text), text);
    }
    assert.ok(cases.valid.length > 0 && cases.invalid.length > 0);
  },
);

test('the corpus: the hash of a file', { skip: data === null && corpusMissing }, () => {
  const digest = createHash('sha256').update(data!.read('storepath/attic-hash-blob.bin')).digest();
  assert.equal(encodeBase32(digest), '0c2kab5ailaapzl62sd9c8pd5d6mf6lf0md1kkdhc5a8y7m08d6z');
});
