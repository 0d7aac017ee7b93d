import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { parseContentAddress } from '../../../core/nix/content-address.ts';
import { formatHash, parseHash } from '../../../core/nix/hash.ts';
import { parsePathInfos } from '../../../core/nix/path-info.ts';
import type { LocalPathInfo } from '../../../core/nix/path-info.ts';
import { corpus, corpusMissing } from '../../support/assert/corpus.ts';
import {
  contentAddresses,
  narHashes,
  signatures,
  sortedStorePaths,
  storePaths,
} from '../../support/lab/nix-values.ts';
import { refuses } from '../../support/assert/refuses.ts';

const data = corpus();
const path = '/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-foo';
const narHash = 'sha256:09si7rw1d9x78ncxz5zq0fz7drxj8iqsgfl4gk1lpwb2dxv1lh97';
const info = { path, narHash, narSize: 120 };

for (const version of ['2.8.0', '2.26.3', '2.34.8', '2.34.8-format-2']) {
  test(`parses the output of Nix ${version}`, () => {
    const url = new URL(`../../fixtures/path-info/nix-${version}.json`, import.meta.url);
    const { valid, invalid } = parsePathInfos(JSON.parse(readFileSync(url, 'utf8')));
    assert.deepEqual(invalid, ['/nix/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl-7.82.0-bin']);
    assert.deepEqual(
      valid.map((found) => ({ ...found, signatures: found.signatures.length })),
      [
        {
          path: '/nix/store/ikgcwncx2cinpipyb5ig5ipkb4m4vf77-src',
          narHash: 'sha256:19l59z9nbs59axnhw6iqsz5bdagqb22kf0dp2zhkiq5m4b6k5247',
          narSize: 288,
          references: [],
          deriver: null,
          ca: 'fixed:r:sha256:19l59z9nbs59axnhw6iqsz5bdagqb22kf0dp2zhkiq5m4b6k5247',
          signatures: 1,
          ultimate: false,
        },
      ],
    );
  });
}

const infos: fc.Arbitrary<LocalPathInfo> = fc.record(
  {
    path: storePaths,
    narHash: narHashes,
    narSize: fc.maxSafeNat(),
    references: sortedStorePaths,
    deriver: fc.option(storePaths),
    ca: fc.option(contentAddresses),
    signatures: fc.array(signatures, { maxLength: 3 }),
    ultimate: fc.boolean(),
  },
  { noNullPrototype: true },
);

const baseName = (full: string): string => full.slice('/nix/store/'.length);

/** Returns `found` in the format json-3. */
function inParts(found: LocalPathInfo): Record<string, unknown> {
  const ca = found.ca === null ? null : parseContentAddress(found.ca);
  return {
    narHash: formatHash(parseHash(found.narHash), 'sri'),
    narSize: found.narSize,
    references: found.references.map(baseName),
    deriver: found.deriver === null ? null : baseName(found.deriver),
    ca: ca === null ? null : { method: ca.method, hash: formatHash(ca.hash, 'sri') },
    signatures: found.signatures.map((text) => {
      const colon = text.indexOf(':');
      return { keyName: text.slice(0, colon), sig: text.slice(colon + 1) };
    }),
    ultimate: found.ultimate,
    storeDir: '/nix/store',
    version: 3,
  };
}

test('parses every path info in every shape', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(infos, { maxLength: 3, selector: (found) => found.path }),
      (valid) => {
        const expected = { valid, invalid: [], unreadable: [] };
        assert.deepEqual(parsePathInfos(valid), expected);
        const byPath = Object.fromEntries(valid.map((found) => [found.path, found]));
        assert.deepEqual(parsePathInfos(byPath), expected);
        const byName = Object.fromEntries(
          valid.map((found) => [baseName(found.path), inParts(found)]),
        );
        assert.deepEqual(
          parsePathInfos({ info: byName, storeDir: '/nix/store', version: 3 }),
          expected,
        );
      },
    ),
  );
});

test('parses hashes as text and as objects', () => {
  const sri = 'sha256-J0XkOKbJKhtnwGw0QU3P+C8jrd77/xIHxpVeyvMHSvc=';
  const canonical = formatHash(parseHash(sri), 'base32');
  for (const spelling of [
    sri,
    canonical,
    { algorithm: 'sha256', format: 'base64', hash: sri.slice('sha256-'.length) },
    { algorithm: 'sha256', format: 'nix32', hash: canonical.slice('sha256:'.length) },
    { algorithm: 'sha256', format: 'sri', hash: sri },
  ]) {
    const { valid } = parsePathInfos([{ ...info, narHash: spelling }]);
    assert.equal(valid[0]?.narHash, canonical);
    const ca = parsePathInfos([{ ...info, ca: { method: 'flat', hash: spelling } }]).valid[0]?.ca;
    assert.equal(ca, `fixed:${canonical}`);
  }
});

test('reads content addresses of experimental kinds, and keeps unknown ones', () => {
  const caOf = (ca: unknown): string | null | undefined =>
    parsePathInfos([{ ...info, ca }]).valid[0]?.ca;
  const git = 'fixed:git:sha1:kpcd173cq987hw957sx6m0868wv3x6d9';
  assert.equal(caOf(git), git);
  assert.equal(caOf({ method: 'git', hash: 'sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=' }), git);
  const blake3 = 'blake3-nnDuFEmWX7YtBJBAoe0G7Dd0MNpuwTFz58T//NKL6YA=';
  assert.equal(
    caOf({ method: 'nar', hash: blake3 }),
    'fixed:r:blake3:1079ig9grzy4wxrk3hbfv8q78dzc0vns2h4h0hnvcpwn94afww4y',
  );
  refuses('unsupported-ca', () => parseContentAddress(caOf({ method: 'x', hash: blake3 })!));
  assert.equal(
    caOf({ method: 'constructor', hash: blake3 }),
    'fixed:constructor:blake3:1079ig9grzy4wxrk3hbfv8q78dzc0vns2h4h0hnvcpwn94afww4y',
  );
  assert.equal(caOf(''), null);
});

test('returns paths that are not in the store separately', () => {
  assert.deepEqual(parsePathInfos([{ path, valid: false }]).invalid, [path]);
  assert.deepEqual(parsePathInfos({ [path]: null }).invalid, [path]);
  assert.deepEqual(parsePathInfos({ info: { [baseName(path)]: null } }).invalid, [path]);
  assert.deepEqual(parsePathInfos([]), { valid: [], invalid: [], unreadable: [] });
  assert.deepEqual(parsePathInfos({}), { valid: [], invalid: [], unreadable: [] });
});

test('refuses a document without path infos, and one of another store', () => {
  for (const json of [undefined, null, 'text', 1, { info: {}, storeDir: '/gnu/store' }]) {
    refuses('malformed-path-info', () => parsePathInfos(json), inspect(json));
  }
});

test('a malformed path info concerns only its own path', () => {
  const malformed: readonly unknown[] = [
    null,
    'text',
    {},
    { ...info, path: 1 },
    { ...info, path: 'x' },
    { path },
    { ...info, narHash: null },
    { ...info, narHash: 'sha1:kpcd173cq987hw957sx6m0868wv3x6d9' },
    { ...info, narHash: { algorithm: 'sha256' } },
    { ...info, narHash: { algorithm: 'blake3', hash: 'x' } },
    { ...info, narSize: -1 },
    { ...info, narSize: 2 ** 53 },
    { ...info, narSize: '120' },
    { ...info, references: 'x' },
    { ...info, references: ['x'] },
    { ...info, references: [1] },
    { ...info, deriver: 'x' },
    { ...info, deriver: 1 },
    { ...info, ca: 1 },
    { ...info, ca: 'text:sha256:x' },
    { ...info, ca: { method: 'nar' } },
    { ...info, signatures: [1] },
    { ...info, signatures: [{ keyName: 'x' }] },
    { ...info, storeDir: '/gnu/store' },
  ];
  const good = { ...info, path: `${path}-good` };
  const read = parsePathInfos([...malformed, good]);
  assert.deepEqual(
    read.valid.map((each) => each.path),
    [good.path],
  );
  assert.equal(read.unreadable.length, malformed.length);
  for (const { error } of read.unreadable) assert.equal(error.code, 'malformed-path-info');

  const named = parsePathInfos({ [path]: 'text', x: info, [good.path]: good });
  assert.deepEqual(
    named.unreadable.map((each) => each.path),
    [path, 'x'],
  );
  assert.equal(named.valid.length, 1);
  assert.equal(parsePathInfos({ info: { [baseName(path)]: 1 } }).unreadable.length, 1);
});

test('keeps more references than a publisher accepts, for the stager to refuse', () => {
  const references = Array.from({ length: 10_001 }, (_, index) => `${path}-${index}`);
  assert.equal(parsePathInfos([{ ...info, references }]).valid[0]?.references.length, 10_001);
});

test('the corpus: every golden file of Nix', { skip: data === null && corpusMissing }, () => {
  const folders = ['path-info', 'nar-info'].map((name) => `storepath/nixos-nix-json/${name}/`);
  const entries = folders.flatMap((folder) => data!.entries(folder));
  assert.ok(entries.length > 0);
  const foo = '/nix/store/n5wkd9frr45pa74if5gpz9j7mifg27fh-foo';
  const bar = '/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-bar';
  const hash = 'sha256-FePFYIlMuycIXPZbWi7LGEiMmZSX9FMbaQenWBzm1Sc=';
  const signature = `${'A'.repeat(86)}==`;
  for (const entry of entries) {
    const json: unknown = JSON.parse(data!.read(entry.path).toString());
    const empty = entry.path.includes('/empty_');
    const impure = entry.path.endsWith('impure.json') && !empty;
    const { valid } = parsePathInfos({ [foo]: json });
    assert.deepEqual(
      valid,
      [
        {
          path: foo,
          narHash: formatHash(parseHash(hash), 'base32'),
          narSize: empty ? 0 : 34878,
          references: empty ? [] : [bar, foo],
          deriver: impure ? `${bar}.drv` : null,
          ca: empty ? null : 'fixed:r:sha256:1lr187v6dck1rjh2j6svpikcfz53wyl3qrlcbb405zlh13x0khhh',
          signatures: impure ? [`asdf:${signature}`, `qwer:${signature}`] : [],
          ultimate: impure,
        },
      ],
      entry.path,
    );
  }
});

test('the corpus: golden content addresses', { skip: data === null && corpusMissing }, () => {
  const entries = data!.entries('storepath/nixos-nix-json/content-address/');
  assert.ok(entries.length > 0);
  for (const entry of entries) {
    const ca = JSON.parse(data!.read(entry.path).toString()) as { method: string; hash: string };
    const text = parsePathInfos([{ ...info, ca }]).valid[0]?.ca ?? '';
    const read = parseContentAddress(text);
    assert.deepEqual({ method: read.method, hash: formatHash(read.hash, 'sri') }, ca, entry.path);
  }
});
