import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { isNicheError } from '../../../core/errors.ts';
import { maxNarInfoBytes, maxReferences } from '../../../core/limits.ts';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { formatHash } from '../../../core/nix/hash.ts';
import { parsePublicKey, verifyFingerprint } from '../../../core/nix/keys.ts';
import { parseHash } from '../../../core/nix/hash.ts';
import { formatNarInfo, parseNarInfo } from '../../../core/nix/narinfo.ts';
import type { NarInfo } from '../../../core/nix/narinfo.ts';
import {
  contentAddresses,
  hashes,
  narHashes,
  signatures,
  sortedStorePaths,
  storePaths,
} from '../../support/lab/nix-values.ts';
import { refuses } from '../../support/assert/refuses.ts';

function fixture(name: string): string {
  return readFileSync(new URL(`../../fixtures/narinfo/${name}`, import.meta.url), 'utf8');
}

const curl = fixture('curl-multirefs.narinfo');
const written = fixture('4mzqzybpky8fv4vy3krhd85x474i8a0f.narinfo');

/** Returns `curl` with the line that starts with `name` replaced, removed or extended. */
function withLine(name: string, ...lines: string[]): string {
  return curl
    .split('\n')
    .flatMap((line) => (line.startsWith(`${name}:`) ? lines : [line]))
    .join('\n');
}

const lines = fc
  .string({ minLength: 1, maxLength: 20 })
  .filter((text) => !/[\0-\x1f\x7f]/.test(text));

const narInfos: fc.Arbitrary<NarInfo> = fc.record(
  {
    path: storePaths,
    url: lines,
    compression: fc.constantFrom('none', 'xz', 'zstd', 'bzip2'),
    fileHash: fc.option(hashes.map((hash) => formatHash(hash, 'base32'))),
    fileSize: fc.option(fc.maxSafeNat()),
    narHash: narHashes,
    narSize: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    references: sortedStorePaths,
    deriver: fc.option(storePaths),
    signatures: fc.uniqueArray(signatures, { maxLength: 3 }).map((texts) => texts.sort()),
    ca: fc.option(contentAddresses),
    extra: fc.array(
      fc.tuple(
        lines.map((name) => `X-${name.replaceAll(':', '')}`),
        fc.oneof(lines, fc.constant('')),
      ),
      { maxLength: 3 },
    ),
  },
  { noNullPrototype: true },
);

test('parses every narinfo that it formats', () => {
  fc.assert(
    fc.property(narInfos, (info) => {
      assert.deepEqual(parseNarInfo(formatNarInfo(info)), info);
    }),
  );
});

test('formats a parsed narinfo of Nix byte for byte', () => {
  assert.equal(formatNarInfo(parseNarInfo(written)), written);
});

test('parses every field', () => {
  const info = parseNarInfo(curl);
  assert.deepEqual(
    { ...info, references: info.references.length, signatures: info.signatures.length },
    {
      path: '/nix/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl-7.82.0-bin',
      url: 'nar/05ra3y72i3qjri7xskf9qj8kb29r6naqy1sqpbs3azi3xcigmj56.nar.xz',
      compression: 'xz',
      fileHash: 'sha256:05ra3y72i3qjri7xskf9qj8kb29r6naqy1sqpbs3azi3xcigmj56',
      fileSize: 68852,
      narHash: 'sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0',
      narSize: 196040,
      references: 4,
      deriver: '/nix/store/5rwxzi7pal3qhpsyfc16gzkh939q1np6-curl-7.82.0.drv',
      signatures: 2,
      ca: null,
      extra: [],
    },
  );
  const key = parsePublicKey('cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=');
  const good = info.signatures.filter((text) => verifyFingerprint(fingerprint(info), text, [key]));
  assert.equal(good.length, 1);
});

test('missing fields have defaults', () => {
  assert.equal(parseNarInfo(withLine('Compression')).compression, 'bzip2');
  assert.equal(parseNarInfo(withLine('Compression', 'Compression: ')).compression, 'bzip2');
  assert.equal(parseNarInfo(withLine('FileHash')).fileHash, null);
  assert.equal(parseNarInfo(withLine('FileSize')).fileSize, null);
  assert.deepEqual(parseNarInfo(withLine('References')).references, []);
  assert.equal(parseNarInfo(withLine('Deriver')).deriver, null);
  assert.equal(parseNarInfo(withLine('Deriver', 'Deriver: unknown-deriver')).deriver, null);
  assert.deepEqual(parseNarInfo(withLine('Sig')).signatures, []);
  assert.equal(parseNarInfo(withLine('Deriver', 'CA: ')).ca, null);
});

test('accepts the hashes and content addresses that Nix accepts, in any case', () => {
  const { narHash } = parseNarInfo(withLine('Deriver'));
  const hex = Buffer.from(parseHash(narHash).digest).toString('hex').toUpperCase();
  assert.equal(parseNarInfo(withLine('NarHash', `NarHash: sha256:${hex}`)).narHash, narHash);
  const git = 'fixed:git:sha1:kpcd173cq987hw957sx6m0868wv3x6d9';
  assert.equal(parseNarInfo(withLine('Deriver', `CA: ${git}`)).ca, git);
  const blake3 = 'blake3:1079ig9grzy4wxrk3hbfv8q78dzc0vns2h4h0hnvcpwn94afww4y';
  assert.equal(parseNarInfo(withLine('Deriver', `CA: fixed:r:${blake3}`)).ca, `fixed:r:${blake3}`);
  assert.equal(parseNarInfo(withLine('FileHash', `FileHash: ${blake3}`)).fileHash, blake3);
});

test('the last of repeated fields wins, and each must be valid', () => {
  assert.equal(parseNarInfo(withLine('NarSize', 'NarSize: 1', 'NarSize: 2')).narSize, 2);
  assert.equal(parseNarInfo(withLine('URL', 'URL: a', 'URL: b')).url, 'b');
  refuses('malformed-narinfo', () => parseNarInfo(withLine('NarSize', 'NarSize: x', 'NarSize: 2')));
  refuses('malformed-narinfo', () =>
    parseNarInfo(withLine('References', 'References: ', 'References: ')),
  );
  refuses('malformed-narinfo', () => parseNarInfo(withLine('Deriver', 'CA: ', 'CA: ')));
});

test('keeps unknown fields in their order', () => {
  const text = `${written}System: x86_64-linux\nX-B: b: c\nX-A: \n`;
  const info = parseNarInfo(text);
  assert.deepEqual(info.extra, [
    ['System', 'x86_64-linux'],
    ['X-B', 'b: c'],
    ['X-A', ''],
  ]);
  assert.equal(formatNarInfo(info), text);
});

test('refuses a malformed value of each field', () => {
  for (const [name, ...replacement] of [
    ['StorePath'],
    ['StorePath', 'StorePath: /gnu/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl'],
    ['URL'],
    ['URL', 'URL: '],
    ['URL', 'URL: a\tb\u0001'],
    ['FileHash', 'FileHash: sha256:x'],
    ['FileSize', 'FileSize: -1'],
    ['NarHash'],
    ['NarHash', 'NarHash: sha1:kpcd173cq987hw957sx6m0868wv3x6d9'],
    ['NarSize'],
    ['NarSize', 'NarSize: 0'],
    ['NarSize', 'NarSize: 1e3'],
    ['NarSize', 'NarSize:  1'],
    ['NarSize', 'NarSize: 9007199254740992'],
    ['References', 'References: x'],
    ['References', 'References:'],
    [
      'References',
      'References: 0jqd0rlxzra1rs38rdxl43yh6rxchgc6-x\t0jqd0rlxzra1rs38rdxl43yh6rxchgc6-y',
    ],
    ['Deriver', 'Deriver: '],
    ['Deriver', 'CA: text:sha256:'],
    ['Deriver', 'CA: fixed:git:md5:kpcd173cq987hw957sx6m0868w'],
    ['Deriver', ''],
    ['Deriver', 'no colon'],
    ['Deriver', ': no name'],
    ['Deriver', 'X:no space'],
  ] as const) {
    refuses(
      'malformed-narinfo',
      () => parseNarInfo(withLine(name, ...replacement)),
      replacement[0] ?? name,
    );
  }
  for (const text of ['', '\n', curl.slice(0, -1), `\n${curl}`, curl.replaceAll('\n', '\r\n')]) {
    refuses('malformed-narinfo', () => parseNarInfo(text));
  }
});

test('limits the size of a narinfo', () => {
  const filler = (size: number): string => `X: ${'x'.repeat(size - curl.length - 4)}\n`;
  parseNarInfo(curl + filler(maxNarInfoBytes));
  refuses('malformed-narinfo', () => parseNarInfo(curl + filler(maxNarInfoBytes + 1)));
  const references = (count: number): string =>
    withLine('References', `References: ${'0jqd0rlxzra1rs38rdxl43yh6rxchgc6-x '.repeat(count)}`);
  assert.equal(parseNarInfo(references(maxReferences)).references.length, 1);
  refuses('malformed-narinfo', () => parseNarInfo(references(maxReferences + 1)));
});

test('no value can inject a line', () => {
  const info = parseNarInfo(written);
  const line = '\nSig: x';
  const signature = info.signatures[0]!;
  for (const [code, change] of [
    ['malformed-store-path', { path: info.path + line }],
    ['malformed-narinfo', { url: info.url + line }],
    ['malformed-narinfo', { url: '' }],
    ['malformed-narinfo', { compression: `none${line}` }],
    ['malformed-narinfo', { compression: 'none\r' }],
    ['malformed-hash', { fileHash: info.fileHash! + line }],
    ['malformed-narinfo', { fileSize: 0.5 }],
    ['malformed-hash', { narHash: info.narHash + line }],
    ['malformed-narinfo', { narSize: 0 }],
    ['malformed-store-path', { references: [info.path + line] }],
    ['malformed-store-path', { deriver: info.path + line }],
    ['malformed-signature', { signatures: [signature + line] }],
    ['malformed-signature', { signatures: ['x:AAAA'] }],
    ['malformed-hash', { ca: `text:sha256:${line}` }],
    ['malformed-narinfo', { extra: [['X', `x${line}`]] as const }],
    ['malformed-narinfo', { extra: [[`X: 1${line}`, '']] as const }],
    ['malformed-narinfo', { extra: [['Sig', 'x']] as const }],
  ] as const) {
    refuses(code, () => formatNarInfo({ ...info, ...change }), JSON.stringify(change));
  }
});

test('keeps a malformed signature, as Nix does, but never verifies it', () => {
  const info = parseNarInfo(withLine('Sig', 'Sig: ', 'Sig: x', 'Sig: x'));
  assert.deepEqual(info.signatures, ['', 'x']);
  assert.equal(verifyFingerprint(fingerprint(info), 'x', []), false);
  refuses('malformed-signature', () => formatNarInfo(info));
});

test('parses or refuses any changed byte', () => {
  fc.assert(
    fc.property(
      fc.nat(written.length - 1),
      fc.constantFrom('', '\n', '\r', ':', ' ', '0', 'é'),
      (at, put) => {
        try {
          const info = parseNarInfo(written.slice(0, at) + put + written.slice(at + 1));
          assert.deepEqual(parseNarInfo(formatNarInfo(info)), info);
        } catch (error) {
          assert.ok(isNicheError(error, 'malformed-narinfo', 'malformed-signature'));
        }
      },
    ),
    { numRuns: 1000 },
  );
});
