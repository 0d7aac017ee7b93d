import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';

import { followRedirects } from '../../../../core/storage/http/follow-redirects.ts';

/** Follows redirects through `locations`, and returns the URLs that were requested. */
async function follow(url: string, ...locations: readonly string[]): Promise<string[]> {
  const requested: string[] = [];
  const send = followRedirects((request) => {
    const location = locations[requested.length];
    requested.push(request.url);
    return Promise.resolve({
      status: location === undefined ? 200 : 302,
      headers: location === undefined ? {} : { location },
      body: Readable.from([]),
    });
  });
  await send({ method: 'GET', url, headers: {} });
  return requested;
}

test('a redirect never leads from a trusted origin to one that can be forged', async () => {
  const [secure, forgeable] = ['https://a.example/x', 'http://b.example/x'];
  assert.deepEqual(await follow(secure, forgeable), [secure]);
  assert.deepEqual(await follow('http://127.0.0.1:5000/x', forgeable), ['http://127.0.0.1:5000/x']);
  assert.deepEqual(await follow('http://[::1]/x', forgeable), ['http://[::1]/x']);
  // Also after further redirects.
  const other = 'https://c.example/x';
  assert.deepEqual(await follow(secure, other, forgeable), [secure, other]);
  assert.deepEqual(await follow(secure, other, '/y'), [secure, other, 'https://c.example/y']);
  assert.deepEqual(await follow(forgeable, 'http://c.example/x'), [
    forgeable,
    'http://c.example/x',
  ]);
});
