import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { listPages, type ListedPage } from '../../../../core/storage/http/paged-list.ts';

function object(key: string): ListedPage['objects'][number] {
  return { key, size: 1, modified: new Date(0), etag: '' };
}

/** Returns the keys listed from these pages. @param asked collects the requested tokens */
async function list(
  pages: Readonly<Record<string, ListedPage>>,
  asked: (string | undefined)[] = [],
  signal?: AbortSignal,
): Promise<string[]> {
  const keys: string[] = [];
  const page = (token: string | undefined): Promise<ListedPage> => {
    asked.push(token);
    return Promise.resolve(pages[token ?? 'first']!);
  };
  for await (const { key } of listPages({ action: 'listing', signal, page })) keys.push(key);
  return keys;
}

describe('a paged listing', () => {
  test('continues to the last page, and skips invalid keys', async () => {
    const asked: (string | undefined)[] = [];
    const pages = {
      first: { objects: [object('a'), object('not a key'), object('')], next: 'second' },
      second: { objects: [], next: 'third' },
      third: { objects: [object('b/c')], next: undefined },
    };
    assert.deepEqual(await list(pages, asked), ['a', 'b/c']);
    assert.deepEqual(asked, [undefined, 'second', 'third']);
  });

  test('fails when an incomplete page has no new token', async () => {
    const failed = { code: 'storage-unavailable', message: /without a token/ };
    await assert.rejects(list({ first: { objects: [object('a')], next: '' } }), failed);
    const round = {
      first: { objects: [object('a')], next: 'second' },
      second: { objects: [object('b')], next: 'second' },
    };
    await assert.rejects(list(round), failed);
  });

  test('ends when its signal is aborted', async () => {
    const asked: (string | undefined)[] = [];
    const pages = { first: { objects: [], next: undefined } };
    await assert.rejects(list(pages, asked, AbortSignal.abort()), { code: 'aborted' });
    assert.deepEqual(asked, []);
  });
});
