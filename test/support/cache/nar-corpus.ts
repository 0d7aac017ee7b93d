import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface NarCase {
  /** The path in its folder, with `/`. */
  readonly path: string;
  /** The result of a correct implementation, by the manifest. */
  readonly expected: string;
  readonly read: () => Buffer;
}

/** Why a test runs only with the copied files. */
export const corpusMissing = 'NICHE_CORPUS does not name the folder of the test data';

export function hasCorpus(): boolean {
  return (process.env['NICHE_CORPUS'] ?? '') !== '';
}

/** Returns the cases whose path starts with `prefix`, of the whole corpus if installed, else the copies. */
export function casesUnder(prefix: string): readonly NarCase[] {
  const fixtures = fileURLToPath(new URL('../../fixtures', import.meta.url));
  const folder = hasCorpus() ? (process.env['NICHE_CORPUS'] ?? '') : fixtures;
  const lines = readFileSync(join(folder, 'MANIFEST.tsv'), 'utf8').trimEnd().split('\n');
  const column = lines[0]?.split('\t').indexOf('expected') ?? -1;
  return lines
    .map((line) => line.split('\t'))
    .filter(([path = '']) => path.startsWith(prefix))
    .map((cells) => {
      const [path = ''] = cells;
      return { path, expected: cells[column] ?? '', read: () => readFileSync(join(folder, path)) };
    });
}

/** Returns the NARs, and whether current Nix accepts them. `edge` has those that only older Nix accepts. */
export function narCases(): readonly (NarCase & { readonly isValid: boolean })[] {
  return casesUnder('nar/')
    .filter(({ path }) => path.endsWith('.nar'))
    .map((nar) => ({
      ...nar,
      isValid: !nar.path.startsWith('nar/crafted/edge/') && nar.expected.startsWith('valid'),
    }));
}

/** Splits `bytes`: not at all, into single bytes, or by repeating the given lengths. */
export function* piecesOf(bytes: Uint8Array, lengths: readonly number[]): Generator<Uint8Array> {
  let at = 0;
  for (let turn = 0; at < bytes.length; turn++) {
    const length = Math.max(1, lengths[turn % lengths.length] ?? 1);
    yield bytes.subarray(at, at + length);
    at += length;
  }
}

/** Encodes a string as in a NAR: length, bytes, padding. */
export function narString(text: string | Uint8Array): Buffer {
  const bytes = Buffer.from(text);
  const encoded = Buffer.alloc(8 + Math.ceil(bytes.length / 8) * 8);
  encoded.writeBigUInt64LE(BigInt(bytes.length));
  bytes.copy(encoded, 8);
  return encoded;
}

/** Encodes strings in sequence, the magic first. */
export function narOf(...strings: readonly (string | Uint8Array)[]): Buffer {
  return Buffer.concat(['nix-archive-1', ...strings].map((text) => narString(text)));
}
