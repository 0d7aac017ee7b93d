import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A line of the corpus's MANIFEST.tsv. */
export interface CorpusEntry {
  /** The path in the corpus, with `/`. */
  readonly path: string;
  /** The result of a correct implementation. */
  readonly expected: string;
  readonly licence: string;
}

export interface Corpus {
  /** The entries whose path starts with `prefix`. */
  readonly entries: (prefix: string) => readonly CorpusEntry[];
  readonly read: (path: string) => Buffer;
}

/** Why a test of the corpus is skipped. */
export const corpusMissing = 'NICHE_CORPUS does not name the folder of the test data';

/** The folder of real-world test data in NICHE_CORPUS, or null. */
export function corpus(): Corpus | null {
  const folder = process.env['NICHE_CORPUS'];
  if (folder === undefined || folder === '') {
    return null;
  }
  const read = (path: string): Buffer => readFileSync(join(folder, path));
  const [header = '', ...lines] = read('MANIFEST.tsv').toString().trimEnd().split('\n');
  const columns = header.split('\t');
  const all = lines.map((line) => {
    const cells = line.split('\t');
    const cell = (name: string): string => cells[columns.indexOf(name)] ?? '';
    return { path: cell('path'), expected: cell('expected'), licence: cell('licence') };
  });
  return { entries: (prefix) => all.filter(({ path }) => path.startsWith(prefix)), read };
}
