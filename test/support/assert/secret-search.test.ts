import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { findSecrets, writtenText } from './secret-search.ts';

describe('the search for secrets', () => {
  const secret = 'a secret/with+signs, 0123456789';
  const bytes = Buffer.from(secret);
  const forms: Readonly<Record<string, string>> = {
    plain: `{"key":"${secret}"}`,
    hex: bytes.toString('hex'),
    'a part of a URL': `https://host.test/?key=${encodeURIComponent(secret)}`,
    base64: bytes.toString('base64'),
    'base64 after one byte': Buffer.from(`:${secret}:`).toString('base64'),
    'base64 after two bytes': Buffer.from(`k:${secret}, and more`).toString('base64'),
  };
  for (const [form, text] of Object.entries(forms)) {
    it(`finds one that is ${form}`, () => {
      const others = [writtenText('elsewhere', 'nothing of it')];
      assert.deepEqual(findSecrets([secret], [...others, writtenText('there', text)]), ['there']);
    });
  }

  it('refuses a secret short enough to occur by chance', () => {
    assert.throws(() => findSecrets(['test'], []), /less than 16 bytes/);
  });
});
