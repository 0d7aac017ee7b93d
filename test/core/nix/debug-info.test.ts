import assert from 'node:assert/strict';
import { test } from 'node:test';
import { maxDebugFiles, maxDebugListingBytes } from '../../../core/limits.ts';
import { findDebugFiles, formatDebugLink } from '../../../core/nix/debug-info.ts';
import { formatListing } from '../../../core/nix/listing.ts';
import type { NarListing } from '../../../core/nix/listing.ts';

const file: NarListing = { type: 'regular', size: 4, executable: false };
const folder = (entries: Readonly<Record<string, NarListing>>): NarListing => ({
  type: 'directory',
  entries: new Map(Object.entries(entries)),
});
const listing = (buildIds: NarListing): Buffer =>
  Buffer.from(formatListing(folder({ lib: folder({ debug: folder({ '.build-id': buildIds }) }) })));
const rest = '623eda209c26a59b1a8638ff7752f6b945c26b';

test('the link is the one of the tests of Nix', () => {
  const [found, ...others] = findDebugFiles(
    listing(folder({ '02': folder({ [`${rest}.debug`]: file }) })),
  );
  assert.deepEqual(others, []);
  assert.equal(found?.buildId, `02${rest}`);
  // From tests/functional/binary-cache.sh.
  assert.equal(
    formatDebugLink('nar/100vxs724qr46phz8m24iswmg9p3785hsyagz0kchf6q6gf06sw6.nar', found),
    '{"archive":"../nar/100vxs724qr46phz8m24iswmg9p3785hsyagz0kchf6q6gf06sw6.nar","member":"lib/debug/.build-id/02/623eda209c26a59b1a8638ff7752f6b945c26b.debug"}',
  );
});

test('other files are no debug files', () => {
  for (const [name, entries] of [
    ['a symlink', { '02': folder({ [`${rest}.debug`]: { type: 'symlink', target: 'x' } }) }],
    ['a directory', { '02': folder({ [`${rest}.debug`]: folder({}) }) }],
    ['another suffix', { '02': folder({ [rest]: file }) }],
    ['upper case', { '02': folder({ [`${rest.toUpperCase()}.debug`]: file }) }],
    ['a short name', { '02': folder({ [`${rest.slice(1)}.debug`]: file }) }],
    ['a long folder', { '020': folder({ [`${rest}.debug`]: file }) }],
    ['no folder', { '02': file }],
  ] as const) {
    assert.deepEqual(findDebugFiles(listing(folder(entries))), [], name);
  }
  assert.deepEqual(findDebugFiles(listing(file)), []);
  assert.deepEqual(findDebugFiles(Buffer.from('{".build-id"')), []);
});

test('hostile listings are bounded', () => {
  const many = Array.from({ length: maxDebugFiles + 1 }, (_, n) => [
    `${n.toString(16).padStart(38, '0')}.debug`,
    file,
  ]);
  const entries = Object.fromEntries(many) as Record<string, NarListing>;
  assert.equal(findDebugFiles(listing(folder({ '02': folder(entries) }))).length, maxDebugFiles);
  const padding = Buffer.alloc(maxDebugListingBytes, ' ');
  const long = Buffer.concat([
    listing(folder({ '02': folder({ [`${rest}.debug`]: file }) })),
    padding,
  ]);
  assert.deepEqual(findDebugFiles(long), []);
});
