import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isNicheError } from '../../../core/errors.ts';
import {
  canonicalNarHash,
  compressHash,
  formatHash,
  isHashAlgorithm,
  parseHash,
} from '../../../core/nix/hash.ts';
import type { HashAlgorithm } from '../../../core/nix/hash.ts';
import { corpus, corpusMissing } from '../../support/assert/corpus.ts';
import { hashes } from '../../support/lab/nix-values.ts';
import { refuses } from '../../support/assert/refuses.ts';

const data = corpus();
const hex = 'a5ce9c155ed09397614646c9717fc7cd94b1023d7b76b618d409e4fefd6e9d39';
const base32 = '0fcxdvyzxr09shcbcxkv7l1b356dqxzp3ja68rhrg4yhbqarrkm5';
const base64 = 'pc6cFV7Qk5dhRkbJcX/HzZSxAj17drYY1Ank/v1unTk=';

test('parses each encoding, with and without the algorithm', () => {
  fc.assert(
    fc.property(hashes, (hash) => {
      for (const encoding of ['base32', 'base16', 'base64', 'sri'] as const) {
        const text = formatHash(hash, encoding);
        assert.deepEqual(parseHash(text), hash);
        assert.deepEqual(parseHash(text, hash.algorithm), hash);
        if (encoding !== 'sri') {
          const bare = text.slice(hash.algorithm.length + 1);
          assert.deepEqual(parseHash(bare, hash.algorithm), hash);
        }
      }
    }),
  );
});

test('the hash of a NAR has one canonical form', () => {
  for (const text of [
    `sha256:${hex}`,
    `sha256:${hex.toUpperCase()}`,
    `sha256:${base32}`,
    `sha256:${base64}`,
    `sha256-${base64}`,
  ]) {
    assert.equal(canonicalNarHash(text), `sha256:${base32}`);
  }
  refuses('malformed-hash', () => canonicalNarHash('sha1:mj1l54np5ii9al6g2cjb02n3jxwpf5k0'));
  refuses('malformed-hash', () => canonicalNarHash(base32));
});

test('refuses hashes that are not canonical', () => {
  for (const text of [
    '',
    'sha256',
    'sha256:',
    'sha256-',
    'sha384:00',
    'constructor:00',
    `sha256:${base32.toUpperCase()}`,
    `SHA256:${hex}`,
    `sha256:${hex}\n`,
    `sha256: ${hex.slice(1)}`,
    `sha256:e${base32.slice(1)}`,
    `sha256:2${base32.slice(1)}`,
    `sha256-${base32}`,
    `sha256-${base64.slice(0, -1)}`,
    `sha256-${base64}=`,
    `sha256-${base64}\nSig: x`,
    `sha256-${base64.slice(0, -2)}l=`,
    `sha256:${base64.replace('/', '_')}`,
    `sha512:${hex}`,
  ]) {
    refuses('malformed-hash', () => parseHash(text), JSON.stringify(text));
  }
  refuses('malformed-hash', () => parseHash(`sha256:${hex}`, 'sha512'));
  refuses('malformed-hash', () => parseHash(hex));
});

test('compressHash folds a digest with XOR', () => {
  assert.deepEqual(compressHash(Uint8Array.of(1, 2, 4, 8, 16), 2), Uint8Array.of(21, 10));
  assert.equal(compressHash(new Uint8Array(32)).length, 20);
});

interface DigestCase {
  algo: string;
  base16: string;
  nix32: string;
  base64: string;
  sri: string;
}

interface ParseCase {
  input: string;
  expected_algo: HashAlgorithm;
  'nix_2.26': string;
}

test('the corpus: digests in all encodings', { skip: data === null && corpusMissing }, () => {
  const { digests } = JSON.parse(data!.read('storepath/hash-formats.json').toString()) as {
    digests: DigestCase[];
  };
  assert.ok(digests.length > 0);
  for (const { algo, base16, nix32, base64: inBase64, sri } of digests) {
    assert.ok(isHashAlgorithm(algo));
    const hash = parseHash(sri);
    assert.equal(hash.algorithm, algo);
    assert.equal(formatHash(hash, 'base16'), `${algo}:${base16}`);
    assert.equal(formatHash(hash, 'base32'), `${algo}:${nix32}`);
    assert.equal(formatHash(hash, 'base64'), `${algo}:${inBase64}`);
    assert.deepEqual(parseHash(base16, algo), hash);
    assert.deepEqual(parseHash(nix32, algo), hash);
    assert.deepEqual(parseHash(inBase64, algo), hash);
  }
});

test(
  'the corpus: accepts canonical encodings that Nix accepts, and nothing that Nix refuses',
  { skip: data === null && corpusMissing },
  () => {
    const { parse } = JSON.parse(data!.read('storepath/hash-formats.json').toString()) as {
      parse: ParseCase[];
    };
    assert.ok(parse.length > 0);
    for (const { input, expected_algo: algorithm, 'nix_2.26': nix } of parse) {
      const accepted = !nix.startsWith('rejects');
      const spellings = accepted
        ? (['base16', 'base32', 'base64', 'sri'] as const).flatMap((encoding) => {
            const hash = { algorithm, digest: Buffer.from(nix, 'hex') };
            const text = formatHash(hash, encoding);
            const bare = text.slice(algorithm.length + 1);
            if (encoding === 'sri') return [text];
            if (encoding !== 'base16') return [text, bare];
            return [text, bare, `${algorithm}:${bare.toUpperCase()}`, bare.toUpperCase()];
          })
        : [];
      if (spellings.includes(input)) {
        const hash = parseHash(input, algorithm);
        assert.equal(Buffer.from(hash.digest).toString('hex'), nix, input);
      } else {
        refuses('malformed-hash', () => parseHash(input, algorithm), JSON.stringify(input));
      }
    }
  },
);

test('parses or refuses any text', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 120 }), (text) => {
      try {
        parseHash(text, 'sha256');
      } catch (error) {
        assert.ok(isNicheError(error, 'malformed-hash'));
      }
    }),
  );
});

test('the corpus: golden hashes of Nix', { skip: data === null && corpusMissing }, () => {
  const entries = data!.entries('storepath/nixos-nix-json/hash/');
  assert.ok(entries.length > 0);
  for (const { path } of entries) {
    const text = JSON.parse(data!.read(path).toString()) as string;
    assert.equal(formatHash(parseHash(text), 'sri'), text, path);
  }
});
