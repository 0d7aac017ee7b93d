import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { isNicheError } from '../../../core/errors.ts';
import { maxListingBytes } from '../../../core/limits.ts';
import { createListingWriter } from '../../../core/nix/listing-writer.ts';
import { formatListing, parseListing } from '../../../core/nix/listing.ts';
import { createNarParser } from '../../../core/nix/nar-parser.ts';
import {
  casesUnder,
  corpusMissing,
  narCases,
  narOf,
  narString,
} from '../../support/cache/nar-corpus.ts';

function listingOf(nar: Uint8Array): string | null {
  const writer = createListingWriter();
  const parser = createNarParser(writer);
  parser.write(nar);
  parser.end();
  const listing = writer.listing();
  return listing && Buffer.from(listing).toString();
}

const refused = (text: string, message: RegExp): void => {
  assert.throws(
    () => parseListing(text),
    (error) => {
      assert.ok(isNicheError(error, 'malformed-listing'), String(error));
      assert.match(error.message, message);
      return true;
    },
  );
};

describe('the listing of a NAR', () => {
  const nars = new Map(narCases().map((nar) => [nar.path, nar]));
  const listed = casesUnder('listing/from-nar/')
    .map(({ path, read }) => {
      const nar = nars.get(path.replace('listing/from-nar/', 'nar/').replace(/json$/, 'nar'));
      return { path, read, nar };
    })
    .filter(({ nar }) => nar !== undefined);
  test('has real NARs in the corpus', () => {
    assert.ok(listed.length > 0);
  });
  for (const { path, read, nar } of listed) {
    test(`${path} matches Nix’s listing`, () => {
      const text = listingOf(nar!.read());
      assert.ok(text);
      const root: unknown = JSON.parse(read().toString());
      assert.deepEqual(JSON.parse(text), { version: 1, root });
      assert.equal(formatListing(parseListing(text)), text);
    });
  }

  test('matches Nix’s output byte for byte', () => {
    const file = ['(', 'type', 'regular', 'executable', '', 'contents', 'x', ')'];
    const plain = ['(', 'type', 'regular', 'contents', '', ')'];
    const link = ['(', 'type', 'symlink', 'target', 'a\n"\u{1f600}', ')'];
    const nar = narOf(
      ...['(', 'type', 'directory', 'entry', '(', 'name', '10', 'node', ...file, ')'],
      ...['entry', '(', 'name', '9', 'node', ...plain, ')'],
      ...['entry', '(', 'name', '__proto__', 'node', ...link, ')'],
      ...['entry', '(', 'name', 'd', 'node', '(', 'type', 'directory', ')', ')', ')'],
    );
    const tenOffset = nar.indexOf(narString('x')) + 8;
    const nineOffset = nar.lastIndexOf(narString('contents')) + 24;
    assert.equal(
      listingOf(nar),
      '{"root":{"entries":{' +
        `"10":{"executable":true,"narOffset":${tenOffset},"size":1,"type":"regular"},` +
        `"9":{"narOffset":${nineOffset},"size":0,"type":"regular"},` +
        '"__proto__":{"target":"a\\n\\"\u{1f600}","type":"symlink"},' +
        '"d":{"entries":{},"type":"directory"}},"type":"directory"},"version":1}',
    );
  });

  test('is null when a name or target is not UTF-8', () => {
    const link = (target: Uint8Array): (string | Uint8Array)[] => {
      return ['(', 'type', 'symlink', 'target', target, ')'];
    };
    assert.equal(listingOf(narOf(...link(Buffer.from([0xff])))), null);
    const entry = [
      'entry',
      '(',
      'name',
      Buffer.from([0x61, 0xff]),
      'node',
      ...link(Buffer.from('t')),
      ')',
    ];
    const more = ['entry', '(', 'name', 'b', 'node', '(', 'type', 'directory', ')', ')'];
    assert.equal(listingOf(narOf('(', 'type', 'directory', ...entry, ...more, ')')), null);
  });

  test('keeps a byte order mark', () => {
    assert.equal(
      listingOf(narOf('(', 'type', 'symlink', 'target', '\ufefft', ')')),
      '{"root":{"target":"\ufefft","type":"symlink"},"version":1}',
    );
  });

  test('escapes names and targets as JSON.stringify does', () => {
    const characters = Array.from({ length: 0x17f }, (_, code) => String.fromCharCode(code + 1));
    const all = [...characters, '\u2028', '\u{1f600}'].join('');
    const text = listingOf(narOf('(', 'type', 'symlink', 'target', all, ')'));
    assert.equal(text, `{"root":{"target":${JSON.stringify(all)},"type":"symlink"},"version":1}`);
  });

  test('is null above its limit in bytes, and is not kept', () => {
    const build = (links: number): number | undefined => {
      const writer = createListingWriter();
      // Each byte of these becomes six of the listing.
      const target = new Uint8Array(4095).fill(1);
      writer.directory?.(new Uint8Array());
      for (let index = 0; index < links; index++) {
        writer.symlink?.(Buffer.from(index.toString().padStart(5, '0')), target);
      }
      writer.leave?.();
      return writer.listing()?.length;
    };
    const each = build(1)! - build(0)! + 1;
    const most = Math.floor((maxListingBytes - build(0)! + 1) / each);
    assert.equal(build(most), build(0)! + most * each - 1);
    assert.equal(build(most + 1), undefined);
    assert.equal(build(10 * most), undefined);
  });
});

describe('parseListing', () => {
  const isFile = (path: string): boolean => path.endsWith('.ls');
  for (const { path, expected, read } of casesUnder('listing/')) {
    if (!isFile(path)) continue;
    test(`${path}: ${expected}`, () => {
      const text = read().toString();
      if (expected.startsWith('valid')) {
        const listing = parseListing(text);
        assert.deepEqual(parseListing(formatListing(listing)), listing);
      } else {
        refused(text, /malformed NAR listing/);
      }
    });
  }

  test('parses Nix’s unwrapped output after wrapping it', (context) => {
    const folder = process.env['NICHE_CORPUS'] ?? '';
    const path = `${folder}/listing/nixos-nix/nar-listing-deep.json`;
    if (folder === '' || !existsSync(path)) {
      context.skip(corpusMissing);
      return;
    }
    const listing = parseListing(`{"version":1,"root":${readFileSync(path, 'utf8')}}`);
    assert.ok(listing.type === 'directory' && listing.entries.size > 0);
  });

  test('refuses one that is far larger than its limit', () => {
    refused(' '.repeat(2 * maxListingBytes + 1), /the size: expected at most \d+ bytes/);
  });

  test('keeps __proto__ and constructor', () => {
    const file = '{"type":"regular","size":1}';
    const entries = `{"constructor":${file},"__proto__":${file}}`;
    const listing = parseListing(`{"version":1,"root":{"type":"directory","entries":${entries}}}`);
    assert.ok(listing.type === 'directory');
    assert.deepEqual([...listing.entries.keys()], ['__proto__', 'constructor']);
  });

  const cases: readonly (readonly [string, string, RegExp])[] = [
    ['no JSON', '{', /is not JSON/],
    ['an array', '[]', /the document: expected an object, got something else/],
    ['null', 'null', /the document: expected an object/],
    ['no version', '{"root":{}}', /the version: expected 1, got nothing/],
    ['a shallow one', '{"version":1,"root":{}}', /the type of "".* got nothing/],
    ['a size that is text', '{"version":1,"root":{"type":"regular","size":"5"}}', /"size" of ""/],
    [
      'a narOffset below 0',
      '{"version":1,"root":{"type":"regular","size":5,"narOffset":-1}}',
      /"narOffset" of "".*got "-1"/,
    ],
    [
      'executable that is text',
      '{"version":1,"root":{"type":"regular","size":5,"executable":"no"}}',
      /"executable" of ""/,
    ],
    ['an empty target', '{"version":1,"root":{"type":"symlink","target":""}}', /"target" of ""/],
    ['no entries', '{"version":1,"root":{"type":"directory"}}', /entries of "".*got nothing/],
    [
      'a name with /',
      '{"version":1,"root":{"type":"directory","entries":{"a/b":{}}}}',
      /a name in "".*got "a\/b"/,
    ],
    [
      'nesting that is too deep',
      `{"version":1,"root":${'{"type":"directory","entries":{"d":'.repeat(100)}{}${'}}'.repeat(100)}}`,
      /the nesting: expected less than 64 deep/,
    ],
    [
      'nesting without end',
      `{"version":1,"root":${'{"type":"directory","entries":{"d":'.repeat(5000)}{}${'}}'.repeat(5000)}}`,
      /it has more than 256 levels/,
    ],
  ];
  for (const [what, text, message] of cases) {
    test(`refuses ${what}`, () => {
      refused(text, message);
    });
  }
});
