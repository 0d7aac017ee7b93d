import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isNicheError } from '../../../core/errors.ts';
import {
  findPublicKey,
  formatSignerSpec,
  parseSignerSpec,
} from '../../../core/signing/signer-spec.ts';
import { refuses } from '../../support/assert/refuses.ts';

const arn = 'arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab';

const version =
  'projects/acme/locations/global/keyRings/niche/cryptoKeys/signing/cryptoKeyVersions/12';

describe('a signer spec', () => {
  const good: [string, string, string, string | null][] = [
    [`aws-kms:${arn}`, 'aws-kms', arn, null],
    [`aws-kms:${arn}?name=acme-1`, 'aws-kms', arn, 'acme-1'],
    ['aws-kms:alias/niche/acme?name=a', 'aws-kms', 'alias/niche/acme', 'a'],
    ['aws-kms:arn:aws-cn:kms:cn-north-1:123456789012:alias/x', 'aws-kms', '', null],
    ['aws-kms:1234abcd-12ab-34cd-56ef-1234567890ab', 'aws-kms', '', null],
    [`gcp-kms:${version}?name=acme-1`, 'gcp-kms', version, 'acme-1'],
    [`gcp-kms:${version}`, 'gcp-kms', version, null],
    ['secret-key:acme-1', 'secret-key', 'acme-1', 'acme-1'],
    ['aws-kms:mrk-1234abcd12ab34cd56ef1234567890ab', 'aws-kms', '', null],
  ];
  for (const [text, kind, key, name] of good) {
    it(`is ${text}`, () => {
      const spec = parseSignerSpec(text);
      assert.equal(spec.kind, kind);
      if (key !== '') assert.equal(spec.key, key);
      assert.equal(spec.name, name);
      assert.equal(formatSignerSpec(spec), text);
    });
  }

  const bad = [
    ...['', 'acme-1', 'aws-kms:', 'aws-kms:alias/', 'aws-kms:alias/a b', `azure-kv:${arn}`, arn],
    ...['secret-key:', 'secret-key:a?name=a', 'secret-key:a:b', 'secret-key:a b'],
    ...[`gcp-kms:${version}/x`, `gcp-kms:${version.replace('12', 'latest')}`, 'gcp-kms:projects/p'],
    ...['aws-kms:projects/p', `kms:${arn}`, 'constructor:x'],
    ...[`aws-kms:${arn}?name=`, `aws-kms:${arn}?name=a:b`, `aws-kms:${arn}?name=a%0Ab`],
    ...[`aws-kms:${arn}?region=x`, `aws-kms:${arn}?name=a&name=b`, `aws-kms:${arn}\n`],
  ];
  for (const text of bad) {
    it(`is not ${JSON.stringify(text)}`, () => {
      refuses('invalid-signer', () => parseSignerSpec(text));
    });
  }

  it('does not show a secret key in place of its name', () => {
    assert.throws(
      () => parseSignerSpec('secret-key:acme-1:c2VjcmV0IQ=='),
      (error) => isNicheError(error, 'invalid-signer') && !error.message.includes('c2VjcmV0'),
    );
  });
});

describe('the public key of a signer', () => {
  const keys = ['acme-1:AAAA', 'acme-10:BBBB'];

  it('has the name of the spec, or is the only one', () => {
    assert.equal(findPublicKey(parseSignerSpec('secret-key:acme-1'), keys), keys[0]);
    assert.equal(findPublicKey(parseSignerSpec('aws-kms:alias/x?name=acme-10'), keys), keys[1]);
    assert.equal(findPublicKey(parseSignerSpec('aws-kms:alias/x'), ['acme-1:AAAA']), keys[0]);
  });

  it('must be known, and unique', () => {
    for (const text of ['secret-key:acme', 'aws-kms:alias/x']) {
      refuses('wrong-key', () => findPublicKey(parseSignerSpec(text), keys));
    }
    refuses('wrong-key', () => findPublicKey(parseSignerSpec('aws-kms:alias/x'), []));
  });
});
