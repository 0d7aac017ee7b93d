import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readAwsSettings } from '../../../functions/aws/settings.ts';

const settings = {
  NICHE_CACHE: 'niche-test',
  NICHE_PUBLIC: 's3://public/?region=eu-central-1',
  NICHE_STAGING: 's3://staging/nix/?region=eu-central-1',
  NICHE_PRIVATE: 's3://private/nix/?region=eu-central-1',
  NICHE_SIGNERS: 'aws-kms:alias/one?name=one-1  aws-kms:alias/two?name=two-1 ',
  NICHE_TIME_LIMIT_SECONDS: '900',
  NICHE_QUEUE_URL: 'https://sqs.eu-central-1.amazonaws.com/123456789012/niche-test',
  NICHE_WITHDRAWALS_URL: 'https://sqs.eu-central-1.amazonaws.com/123456789012/niche-withdrawals',
};

describe('the settings of an AWS function', () => {
  it('are read from the environment', () => {
    const read = readAwsSettings({ ...settings, PATH: '/bin' });
    assert.deepEqual(
      read.NICHE_SIGNERS.map(({ key, name }) => [key, name]),
      [
        ['alias/one', 'one-1'],
        ['alias/two', 'two-1'],
      ],
    );
    assert.equal(read.NICHE_TIME_LIMIT_SECONDS, 900);
    assert.equal(read.NICHE_BYTES_PER_SECOND, 20_000_000);
  });

  const wrong: [string, string | undefined][] = [
    ['NICHE_PUBLIC', 'public'],
    ['NICHE_STAGING', 'https://staging.example'],
    ['NICHE_PRIVATE', 'private'],
    ['NICHE_SIGNERS', ' '],
    ['NICHE_SIGNERS', 'secret-key'],
    ['NICHE_TIME_LIMIT_SECONDS', '0'],
    ['NICHE_TIME_LIMIT_SECONDS', 'soon'],
    ['NICHE_BYTES_PER_SECOND', '-1'],
    ['NICHE_QUEUE_URL', 'queue'],
    ['NICHE_CACHE', ''],
    ...Object.keys(settings).map((name): [string, undefined] => [name, undefined]),
  ];
  for (const [name, value] of wrong) {
    it(`are refused with ${name} ${value === undefined ? 'missing' : JSON.stringify(value)}`, () => {
      assert.throws(
        () => readAwsSettings({ ...settings, [name]: value }),
        (error: { code?: string; message: string }) =>
          error.code === 'malformed-config' && error.message.includes(name),
      );
    });
  }
});
