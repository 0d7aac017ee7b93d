/**
 * Parses damaged NARs and compares the verdicts with Nix, if the test tools include it:
 *
 *     node test/fuzz/nar.ts [count] [seed]
 *
 * Nix must restore and dump every NAR that the parser accepts, byte for byte. The parser must accept
 * every NAR that Nix reproduces. (Released Nix accepts more, such as unsorted names, but dumps a
 * different NAR.)
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { argv } from 'node:process';
import { isNicheError } from '../../core/errors.ts';
import { createNarParser } from '../../core/nix/nar-parser.ts';
import { narOf, piecesOf } from '../support/cache/nar-corpus.ts';
import { nixOracle } from './oracle.ts';
import type { Oracle } from './oracle.ts';
import { randomOf } from './random.ts';
import type { Random } from './random.ts';

export interface FuzzOptions {
  /** Number of NARs to test. */
  readonly count: number;
  readonly seed: number;
  /** The Nix to compare with. */
  readonly oracle: Oracle | null;
}

export interface FuzzReport {
  readonly taken: number;
  readonly refused: number;
  /** Contradictions found, each with its NAR in hex. */
  readonly faults: readonly string[];
}

const names = ['a', 'b', 'ab', ')', 'B', 'é', 'z'.repeat(9), '.x', '..', '', 'a/b', 'n\0'];
const words = ['(', ')', 'type', 'entry', 'name', 'node', 'contents', 'executable', 'target', ''];

/** Returns the strings of a node, mostly well-formed. */
function nodeOf(random: Random, depth: number): string[] {
  const kind = depth > 3 ? random(2) : random(4);
  if (kind === 0) {
    return ['(', 'type', 'symlink', 'target', ['t', '/nix/store', 'é', ''][random(4)] ?? 't', ')'];
  }
  if (kind === 1) {
    const marker = random(2) === 0 ? [] : ['executable', ''];
    return ['(', 'type', 'regular', ...marker, 'contents', 'c'.repeat(random(20)), ')'];
  }
  const chosen = Array.from({ length: random(4) }, () => names[random(random(8) === 0 ? 12 : 8)]);
  const sorted = random(8) === 0 ? chosen : [...new Set(chosen)].sort();
  const entries = sorted.flatMap((name = '') => {
    return ['entry', '(', 'name', name, 'node', ...nodeOf(random, depth + 1), ')'];
  });
  return ['(', 'type', 'directory', ...entries, ')'];
}

/** Damages the strings, then the bytes, or leaves both as they are. */
function narFrom(random: Random): Buffer {
  const strings = nodeOf(random, 0);
  const at = random(strings.length);
  const word = words[random(words.length)] ?? '';
  if (random(4) === 0) strings.splice(at, random(3), ...(random(2) === 0 ? [word] : []));
  const nar = narOf(...strings);
  switch (random(6)) {
    case 0:
      return nar.subarray(0, random(nar.length));
    case 1:
      nar[random(nar.length)] = random(256);
      return nar;
    case 2:
      nar[random(nar.length)] = (nar[random(nar.length)] ?? 0) ^ (1 << random(8));
      return nar;
    default:
      return nar;
  }
}

/** Returns the parser's error, or undefined if it accepts the NAR. */
function refusalOf(chunks: Iterable<Uint8Array>): string | undefined {
  const parser = createNarParser({});
  try {
    for (const chunk of chunks) parser.write(chunk);
    parser.end();
    return undefined;
  } catch (error) {
    if (isNicheError(error, 'malformed-nar')) return error.message;
    throw error;
  }
}

/** Returns whether Nix restores the NAR and dumps the same bytes. */
function isReproduced(nix: Oracle, nar: Buffer, folder: string): boolean {
  const path = join(folder, 'restored');
  try {
    if (nix(folder, 'nix-store', ['--restore', path], nar).status !== 0) return false;
    return nix(folder, 'nix-store', ['--dump', path]).stdout.equals(nar);
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}

export function fuzzNar({ count, seed, oracle }: FuzzOptions): FuzzReport {
  const random = randomOf(seed);
  const folder = mkdtempSync(join(tmpdir(), 'niche-fuzz-'));
  const faults: string[] = [];
  let taken = 0;
  try {
    for (let turn = 0; turn < count; turn++) {
      const nar = narFrom(random);
      const refusal = refusalOf([nar]);
      if (refusal === undefined) taken++;
      const inPieces = refusalOf(piecesOf(nar, [1 + random(9), 1 + random(30)]));
      if (inPieces !== refusal) {
        faults.push(
          `${refusal ?? 'taken'} whole, ${inPieces ?? 'taken'} in pieces: ${nar.toString('hex')}`,
        );
      }
      if (oracle && isReproduced(oracle, nar, folder) !== (refusal === undefined)) {
        faults.push(`${refusal ?? 'taken'}; Nix does otherwise: ${nar.toString('hex')}`);
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return { taken, refused: count - taken, faults };
}

if (import.meta.main) {
  const [count = '500', seed = String(Date.now() % 1_000_000)] = argv.slice(2);
  const oracle = nixOracle();
  console.log(`seed ${seed}, ${oracle ? 'Nix is the oracle' : 'no Nix here: without an oracle'}`);
  const { taken, refused, faults } = fuzzNar({ count: Number(count), seed: Number(seed), oracle });
  console.log(`${taken} taken, ${refused} refused, ${faults.length} faults`);
  for (const fault of faults) console.error(fault);
  if (faults.length > 0) process.exitCode = 1;
}
