import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { findLogin, netrcLogins, parseNetrc } from '../../../core/util/netrc.ts';
import { temporaryFolder } from '../../support/cache/small-cache.ts';

const acme = { machine: 'acme.example', login: 'ci', password: 's3cret' };

describe('a netrc file is parsed as curl does', () => {
  for (const [name, text] of [
    ['one line', 'machine acme.example login ci password s3cret'],
    ['several lines', 'machine acme.example\n\tlogin ci\n  password s3cret\n'],
    ['the password first', 'machine acme.example password s3cret login ci\r\n'],
    ['quotes', 'machine "acme.example" login "ci" password "s\\3cret"'],
    ['an account', 'machine acme.example login ci account password password s3cret'],
    ['comments', '# machine x login y\nmachine acme.example # of CI\nlogin ci password s3cret'],
    ['a macro', 'macdef init\nmachine x\nlogin y\n\nmachine acme.example login ci password s3cret'],
    ['unknown words', 'port 443 machine acme.example login ci protocol https password s3cret'],
  ] as const) {
    test(name, () => {
      assert.deepEqual(parseNetrc(text), [acme]);
    });
  }

  test('quotes and a number sign within words, an empty file, and a file that breaks off', () => {
    const [entry] = parseNetrc('machine a login "c i\\t\\"" password p#1');
    assert.deepEqual(entry, { machine: 'a', login: 'c i\t"', password: 'p#1' });
    assert.deepEqual(parseNetrc(''), []);
    assert.deepEqual(parseNetrc('login x password y'), []);
    assert.deepEqual(parseNetrc('machine a login'), [{ machine: 'a', login: '', password: '' }]);
  });
});

describe('the login for a cache', () => {
  const other = { machine: 'other.example', login: 'o', password: 'o' };
  const fallback = { machine: null, login: 'any', password: 'any' };
  const entries = [other, acme, { ...acme, login: 'second' }, fallback];

  test('is the first entry of its host, whatever the port, or default', () => {
    for (const [url, expected] of [
      ['https://acme.example/cache', acme],
      ['https://ACME.example:8443', acme],
      ['https://other.example', other],
      ['https://sub.acme.example', fallback],
    ] as const) {
      assert.equal(findLogin(entries, url, true), expected, url);
    }
    assert.equal(findLogin(entries, 'https://evil.example', false), undefined);
    assert.equal(findLogin([fallback, acme], 'https://acme.example', true), fallback);
    assert.equal(findLogin([fallback, acme], 'https://acme.example', false), acme);
    const v6 = { ...acme, machine: '::1' };
    assert.equal(findLogin([v6], 'https://[::1]:8443', true), v6);
  });

  test('is read once, and is none without the file', async (t) => {
    const file = join(await temporaryFolder(t), 'netrc');
    const missing = netrcLogins(() => Promise.resolve(file));
    assert.equal(await missing('https://acme.example', 'user'), undefined);
    await writeFile(file, 'machine acme.example login ci password s3cret\ndefault login any');
    const logins = netrcLogins(() => Promise.resolve(file));
    assert.deepEqual(await logins('https://acme.example', 'cache'), acme);
    await rm(file);
    assert.deepEqual(await logins('https://acme.example', 'user'), acme);
    assert.equal((await logins('https://x.example', 'user'))?.login, 'any');
    // An upstream in a configuration that someone else wrote.
    assert.equal(await logins('https://x.example', 'cache'), undefined);
  });
});
