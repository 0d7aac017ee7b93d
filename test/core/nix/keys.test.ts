import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isNicheError, messageOf } from '../../../core/errors.ts';
import {
  formatPublicKey,
  formatSecretKey,
  formatSignature,
  generateSecretKey,
  parsePublicKey,
  parseSecretKey,
  parseSignature,
  signFingerprint,
  verifyFingerprint,
  verifyFingerprintAsync,
} from '../../../core/nix/keys.ts';
import { corpus, corpusMissing } from '../../support/assert/corpus.ts';
import { keyNames, signatures } from '../../support/lab/nix-values.ts';
import { refuses } from '../../support/assert/refuses.ts';

interface KeyCases {
  keys: { public: string; secret?: string }[];
  invalid_signatures: { text: string; why: string }[];
  invalid_public_keys: { text: string; why: string }[];
  invalid_secret_keys: { text: string; why: string }[];
  verify: { signature: string; public_key: string; fingerprint: string; expected: boolean }[];
}

const data = corpus();
const skip = data === null && corpusMissing;

function keyCases(): KeyCases {
  return JSON.parse(data!.read('narinfo/keys.json').toString()) as KeyCases;
}

const seed = new Uint8Array(32).fill(7);
const key = generateSecretKey('cache.example.org-1', seed);

/** The order of Ed25519's group: the modulus of its scalars. */
const groupOrder = 2n ** 252n + 27742317777372353535851937790883648493n;

/** Returns the same signature with an unreduced scalar, which only some verifiers refuse. */
function malleated(signature: string): string {
  const parsed = parseSignature(signature);
  const bytes = Uint8Array.from(parsed.signature);
  let scalar = groupOrder;
  for (let index = 63; index >= 32; index--) {
    scalar += BigInt(bytes[index]!) << BigInt((index - 32) * 8);
  }
  for (let index = 32; index < 64; index++) {
    bytes[index] = Number((scalar >> BigInt((index - 32) * 8)) & 255n);
  }
  return formatSignature({ name: parsed.name, signature: bytes });
}

test('parses the keys and signatures that it formats', () => {
  fc.assert(
    fc.property(keyNames, fc.uint8Array({ minLength: 32, maxLength: 32 }), (name, bytes) => {
      const secret = generateSecretKey(name, bytes);
      assert.deepEqual(parseSecretKey(formatSecretKey(secret)), secret);
      const publicKey = parsePublicKey(formatPublicKey(secret.publicKey));
      assert.deepEqual(publicKey, secret.publicKey);
    }),
    { numRuns: 10 },
  );
  fc.assert(
    fc.property(signatures, (text) => {
      assert.equal(formatSignature(parseSignature(text)), text);
    }),
  );
});

test('a key without a seed is random', () => {
  assert.notDeepEqual(generateSecretKey('a').key, generateSecretKey('a').key);
});

for (const verify of [verifyFingerprint, verifyFingerprintAsync]) {
  test(`verifies only with the key that the signature specifies: ${verify.name}`, async () => {
    const other = generateSecretKey('cache.example.org-2', seed).publicKey;
    const stranger = generateSecretKey('cache.example.org-1').publicKey;
    const signature = signFingerprint('1;text', key);
    assert.equal(await verify('1;text', signature, [stranger, key.publicKey]), true);
    assert.equal(await verify('1;texT', signature, [key.publicKey]), false);
    assert.equal(await verify('1;text', signature, [stranger]), false);
    assert.equal(await verify('1;text', signature, [other]), false);
    assert.equal(await verify('1;text', signature, []), false);
    assert.equal(await verify('1;text', `${signature}=`, [key.publicKey]), false);
    const secondForm = malleated(signature);
    assert.notEqual(secondForm, signature);
    assert.equal(await verify('1;text', secondForm, [key.publicKey]), false);
  });
}

test('refuses signatures that are not canonical', () => {
  const good = signFingerprint('1;text', key);
  const name = 'cache.example.org-1';
  for (const text of [
    '',
    name,
    `${name}:`,
    good.replace(name, ''),
    good.replace(name, 'a b'),
    good.replace(name, 'a\nb'),
    good.replace(name, 'a\u0085b'),
    good.replace(':', ''),
    good.replace(':', ': '),
    good.slice(0, -1),
    `${good}=`,
    `${good}\n`,
    `${good}\nURL: nar/x`,
    `${good}QQ==`,
    good.slice(0, -3) + 'B==',
    formatSignature({ name, signature: new Uint8Array(63) }),
  ]) {
    if (text !== good) {
      refuses('malformed-signature', () => parseSignature(text), JSON.stringify(text));
      assert.equal(verifyFingerprint('1;text', text, [key.publicKey]), false);
    }
  }
});

test('refuses malformed keys without showing a secret', () => {
  const text = formatSecretKey(key);
  const secret = text.split(':')[1]!;
  const wrongHalf = Uint8Array.from(key.key);
  wrongHalf[40] = wrongHalf[40]! ^ 1;
  for (const malformed of [
    secret,
    text.slice(0, -1),
    `${text}x`,
    `:${secret}`,
    `${secret}:${secret.slice(4)}`,
    formatSecretKey({ ...key, key: wrongHalf }),
  ]) {
    assert.throws(
      () => parseSecretKey(malformed),
      (error) => {
        assert.ok(!messageOf(error).includes(secret.slice(0, 8)), messageOf(error));
        return true;
      },
    );
    refuses('malformed-key', () => parseSecretKey(malformed));
  }
  assert.deepEqual(parseSecretKey(`${text}\n`), key);
  refuses('malformed-key', () => parsePublicKey(text));
  refuses('malformed-key', () => generateSecretKey('a:b'));
  refuses('malformed-key', () => generateSecretKey(''));
  refuses('malformed-key', () => generateSecretKey('a', new Uint8Array(31)));
});

test('does not show a secret key in place of a public key', () => {
  const secret = formatSecretKey(key);
  const [name = '', base64 = ''] = secret.split(':');
  for (const text of [secret, `${secret}\n`, `${name}:${name}:${base64}`, base64]) {
    assert.throws(
      () => parsePublicKey(text),
      (error) =>
        isNicheError(error, 'malformed-key') && !error.message.includes(base64.slice(0, 8)),
    );
  }
  assert.throws(() => parsePublicKey(secret), /"cache\.example\.org-1".*got a secret key/);
});

test('the corpus: keys', { skip }, () => {
  const cases = keyCases();
  for (const { public: publicText, secret } of cases.keys) {
    assert.equal(formatPublicKey(parsePublicKey(publicText)), publicText);
    if (secret !== undefined) {
      const parsed = parseSecretKey(secret);
      assert.equal(formatSecretKey(parsed), secret);
      assert.equal(formatPublicKey(parsed.publicKey), publicText);
    }
  }
  for (const { text, why } of cases.invalid_public_keys) {
    refuses('malformed-key', () => parsePublicKey(text), why);
  }
  for (const { text, why } of cases.invalid_secret_keys) {
    refuses('malformed-key', () => parseSecretKey(text), why);
  }
  for (const { text, why } of cases.invalid_signatures) {
    refuses('malformed-signature', () => parseSignature(text), why);
  }
  assert.ok(cases.keys.length > 0 && cases.invalid_signatures.length > 0);
});

test('the corpus: verification, and the same signature when signed again', { skip }, () => {
  const cases = keyCases();
  assert.ok(cases.verify.length > 0);
  for (const { signature, public_key: publicText, fingerprint, expected } of cases.verify) {
    const verified = verifyFingerprint(fingerprint, signature, [parsePublicKey(publicText)]);
    assert.equal(verified, expected, signature);
    const secret = cases.keys.find((found) => found.public === publicText)?.secret;
    if (expected && secret !== undefined) {
      assert.equal(signFingerprint(fingerprint, parseSecretKey(secret)), signature);
    }
  }
});
