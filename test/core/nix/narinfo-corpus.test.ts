import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isNicheError } from '../../../core/errors.ts';
import { parseContentAddress } from '../../../core/nix/content-address.ts';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { parsePublicKey, parseSignature, verifyFingerprint } from '../../../core/nix/keys.ts';
import type { PublicKey } from '../../../core/nix/keys.ts';
import { formatNarInfo, parseNarInfo } from '../../../core/nix/narinfo.ts';
import type { NarInfo } from '../../../core/nix/narinfo.ts';
import { computeCaPath, parseStorePath } from '../../../core/nix/store-path.ts';
import { corpus, corpusMissing } from '../../support/assert/corpus.ts';
import type { CorpusEntry } from '../../support/assert/corpus.ts';
import { refuses } from '../../support/assert/refuses.ts';

const data = corpus();
const skip = data === null && corpusMissing;

/** Narinfos that niche refuses and the manifest accepts, and why. */
const stricter: ReadonlyMap<string, string> = new Map([
  ['storepath-traversal', 'Nix tidies the path; only the tidy spelling is one here'],
  ['narsize-2-53-plus-1', 'no NAR is so large, and the number would not be exact'],
  ['narhash-sha1', 'only SHA-256 can be signed and published'],
]);

/** Narinfos that Nix 2.26 refuses, for which the manifest has no verdict. */
const leftToNixAndRefused = ['crlf', 'deriver-empty', 'no-final-newline', 'references-no-space'];

function nameOf(entry: CorpusEntry): string {
  return entry.path.slice(entry.path.lastIndexOf('/') + 1).replace(/\.narinfo$/, '');
}

function isInvalid(entry: CorpusEntry): boolean {
  return (
    entry.expected.startsWith('INVALID') ||
    stricter.has(nameOf(entry)) ||
    leftToNixAndRefused.includes(nameOf(entry))
  );
}

function narInfoFiles(): readonly CorpusEntry[] {
  const files = data!.entries('narinfo/').filter(({ path }) => path.endsWith('.narinfo'));
  assert.ok(files.length > 0);
  return files;
}

/** Returns the narinfos of a file. A bundle has several, separated by empty lines. */
function textsOf(path: string): readonly string[] {
  const text = data!.read(path).toString();
  return path.endsWith('.narinfos')
    ? text.split('\n\n').map((part) => (part.endsWith('\n') ? part : `${part}\n`))
    : [text];
}

function readCrafted(name: string): NarInfo {
  return parseNarInfo(data!.read(`narinfo/crafted/${name}.narinfo`).toString());
}

test('parses or refuses each narinfo as the manifest specifies', { skip }, () => {
  for (const entry of narInfoFiles()) {
    for (const text of textsOf(entry.path)) {
      if (isInvalid(entry)) {
        refuses('malformed-narinfo', () => parseNarInfo(text), entry.path);
      } else {
        assert.doesNotThrow(() => parseNarInfo(text), entry.path);
      }
    }
  }
});

test('crafted narinfos have the values of the manifest', { skip }, () => {
  const original = fingerprint(readCrafted('sig-none'));
  for (const name of ['refs-duplicated', 'refs-double-space', 'refs-reversed', 'narhash-sri']) {
    assert.equal(fingerprint(readCrafted(name)), original, name);
  }
  assert.equal(readCrafted('compression-missing').compression, 'bzip2');
  assert.equal(readCrafted('compression-unknown').compression, 'rot13');
  assert.equal(readCrafted('narsize-leading-zero').narSize, 196040);
  assert.deepEqual(readCrafted('missing-references').references, []);
  assert.deepEqual(readCrafted('unknown-fields').extra, [
    ['Frobnicator', 'yes'],
    ['X-Custom', 'value: with: colons'],
  ]);
  assert.equal(readCrafted('long-line').extra.length, 1);
  assert.equal(readCrafted('sig-duplicate-line').signatures.length, 2);
  for (const name of ['sig-empty', 'sig-no-colon', 'sig-not-base64', 'sig-truncated']) {
    for (const text of readCrafted(name).signatures) {
      refuses('malformed-signature', () => parseSignature(text), name);
    }
  }
});

test('every signature has the verdict of signatures.tsv', { skip }, () => {
  const { keys } = JSON.parse(data!.read('narinfo/keys.json').toString()) as {
    keys: { public: string }[];
  };
  const publicKeys: readonly PublicKey[] = keys.map((key) => parsePublicKey(key.public));
  const entries = new Map(data!.entries('narinfo/').map((entry) => [entry.path, entry]));
  const rows = data!.read('narinfo/signatures.tsv').toString().trimEnd().split('\n').slice(1);
  assert.ok(rows.length > 0);
  for (const row of rows) {
    const [file = '', index = '', , key = '', result = ''] = row.split('\t');
    const entry = entries.get(file);
    assert.ok(entry !== undefined, file);
    if (isInvalid(entry)) {
      // The test above refuses the whole narinfo, so its signatures do not matter.
      continue;
    }
    const info = parseNarInfo(textsOf(file)[Number(index) - 1] ?? '');
    const verified = info.signatures
      .filter((text) => text.split(':')[0] === key)
      .map((text) => verifyFingerprint(fingerprint(info), text, publicKeys));
    assert.ok(verified.length > 0, row);
    assert.equal(verified.includes(true), result === 'pass', row);
  }
});

test('computes the path of each true content address', { skip }, () => {
  let count = 0;
  for (const entry of data!.entries('narinfo/').filter(({ path }) => /\.narinfos?$/.test(path))) {
    for (const text of isInvalid(entry) ? [] : textsOf(entry.path)) {
      const info = parseNarInfo(text);
      if (info.ca === null) {
        continue;
      }
      const others = info.references.filter((path) => path !== info.path);
      const computed = (): string =>
        computeCaPath(
          parseContentAddress(info.ca!),
          parseStorePath(info.path).name,
          others,
          others.length < info.references.length,
        );
      if (lyingContentAddresses.has(nameOf(entry))) {
        assert.notEqual(outcome(computed), info.path, entry.path);
      } else {
        assert.equal(computed(), info.path, entry.path);
        count++;
      }
    }
  }
  assert.ok(count > 0);
});

/** Invented narinfos, or ones without their source's references. Nix does not trust them either. */
const lyingContentAddresses: ReadonlySet<string> = new Set([
  'ca-on-input-addressed',
  'witherable-drv-text-ca',
  'sign',
]);

function outcome(act: () => string): string {
  try {
    return act();
  } catch (error) {
    assert.ok(isNicheError(error, 'ca-mismatch'));
    return error.code;
  }
}

test('formats narinfos of Nix byte for byte', { skip }, () => {
  for (const { path } of narInfoFiles().filter((entry) => entry.path.includes('/binary-cache/'))) {
    const text = data!.read(path).toString();
    assert.equal(formatNarInfo(parseNarInfo(text)), text, path);
  }
});

test('parses every narinfo that it formats', { skip }, () => {
  for (const entry of data!.entries('narinfo/').filter(({ path }) => /\.narinfos?$/.test(path))) {
    for (const text of isInvalid(entry) ? [] : textsOf(entry.path)) {
      const info = parseNarInfo(text);
      if (entry.expected.includes('malformed')) {
        refuses('malformed-signature', () => formatNarInfo(info), entry.path);
      } else {
        assert.deepEqual(parseNarInfo(formatNarInfo(info)), info, entry.path);
      }
    }
  }
});
