import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { maxDocumentBytes } from '../../../core/limits.ts';
import { formatCacheInfo, parseCacheInfo } from '../../../core/nix/cache-info.ts';
import { corpus, corpusMissing } from '../../support/assert/corpus.ts';
import { refuses } from '../../support/assert/refuses.ts';

const data = corpus();

const cacheInfos = fc.record(
  {
    storeDir: fc.constantFrom('/nix/store', '/gnu/store', '/foo', '/tmp/a-b.c/store'),
    wantMassQuery: fc.boolean(),
    priority: fc.option(fc.integer({ min: -(2 ** 31) + 1 })),
  },
  { noNullPrototype: true },
);

test('parses every cache info that it formats', () => {
  fc.assert(
    fc.property(cacheInfos, (info) => {
      assert.deepEqual(parseCacheInfo(formatCacheInfo(info)), info);
    }),
  );
});

test('formats as Nix does', () => {
  const text = 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n';
  const info = { storeDir: '/nix/store', wantMassQuery: true, priority: 41 };
  assert.equal(formatCacheInfo(info), text);
  assert.deepEqual(parseCacheInfo(text), info);
});

test('missing fields have defaults', () => {
  const info = { storeDir: '/nix/store', wantMassQuery: false, priority: null };
  assert.deepEqual(parseCacheInfo(''), info);
  assert.deepEqual(parseCacheInfo('Future: x\nno colon\nWantMassQuery:0'), info);
});

test('refuses malformed text', () => {
  for (const text of [
    'StoreDir:\n',
    'StoreDir: nix/store\n',
    'StoreDir: /nix/store/\n',
    'StoreDir: /nix/../store\n',
    'StoreDir: /\n',
    'StoreDir: /a b\n',
    'Priority: high\n',
    'Priority:\n',
    'Priority: 1.5\n',
    'Priority: 4294967296\n',
    'x'.repeat(maxDocumentBytes + 1),
  ]) {
    refuses('malformed-cache-info', () => parseCacheInfo(text), text.slice(0, 40));
  }
  const info = { storeDir: '/nix/store', wantMassQuery: true, priority: 41 };
  refuses('malformed-cache-info', () => formatCacheInfo({ ...info, storeDir: '/a\nPriority: 1' }));
  refuses('malformed-cache-info', () => formatCacheInfo({ ...info, priority: 0.5 }));
});

test('the corpus: every text parses', { skip: data === null && corpusMissing }, () => {
  const cases = JSON.parse(data!.read('narinfo/nix-cache-info.json').toString()) as {
    text: string;
  }[];
  const files = data!
    .entries('narinfo/')
    .filter(({ path }) => path.endsWith('/nix-cache-info'))
    .map(({ path }) => data!.read(path).toString());
  assert.ok(cases.length > 0 && files.length > 0);
  for (const text of [...cases.map((found) => found.text), ...files]) {
    const info = parseCacheInfo(text);
    assert.deepEqual(parseCacheInfo(formatCacheInfo(info)), info);
  }
  assert.equal(parseCacheInfo('StoreDir: /foo\n').storeDir, '/foo');
});
