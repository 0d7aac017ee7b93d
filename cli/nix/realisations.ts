import { readFile } from 'node:fs/promises';

import { createDerivationHasher, type ReadDerivation } from '../../core/nix/derivation-hash.ts';
import { parseDerivation, type Derivation } from '../../core/nix/derivation.ts';
import {
  canonicalRealisation,
  outputPathName,
  parsePrintedRealisations,
  realisationId,
  realisationName,
  type Realisation,
} from '../../core/nix/realisation.ts';
import { parseStorePath } from '../../core/nix/store-path.ts';
import type { AskOptions } from './ask.ts';
import type { NixConfigEntry } from './nix-config.ts';
import type { Nix } from './nix.ts';
import { chunked } from './query.ts';

export interface RealisationQuery {
  /** The derivers of valid content-addressed paths. Those whose `.drv` file is gone are skipped. */
  readonly derivers: Iterable<string>;
  /** Other derivations, of which some outputs may be valid. */
  readonly drvPaths: Iterable<string>;
  /** Valid paths. Of `drvPaths`, only outputs that have the name of one of these are looked for. */
  readonly paths: Iterable<string>;
}

/** An output of a derivation whose path only a build determines. */
interface Candidate {
  readonly drvPath: string;
  readonly output: string;
}

const caDerivations: NixConfigEntry = ['extra-experimental-features', 'ca-derivations'];

/** Runs of Nix for one query, at most: it fails for all outputs when one of them was never built. */
const maxAsks = 200;

/**
 * Returns the realisations that this machine's store has of outputs of content-addressed derivations
 * and of their dependents. One run of Nix answers, unless an output was never built.
 *
 * Nix knows realisations by a hash of the derivation up to 2.34, and by its path from 2.35. The cache
 * needs both, so the hash is computed here.
 */
export async function queryRealisations(
  nix: Nix,
  query: RealisationQuery,
  options: AskOptions = {},
): Promise<Realisation[]> {
  const read = derivationReader(nix);
  const candidates = await findCandidates(nix, query, read);
  if (candidates.length === 0) return [];
  const outputs = await askOutputs(nix, candidates, options);
  const hashDerivation = createDerivationHasher(read);
  const found: Realisation[] = [];
  for (const candidate of candidates) {
    const drvHash = await hashDerivation(candidate.drvPath);
    if (drvHash === null) continue;
    const key = { drvHash, ...candidate };
    const outPath = outputs.get(realisationId(key)) ?? outputs.get(realisationName(key));
    if (outPath !== undefined) found.push(canonicalRealisation({ ...key, outPath }, nix.storeDir));
  }
  return found;
}

async function findCandidates(
  nix: Nix,
  { derivers, drvPaths, paths }: RealisationQuery,
  read: ReadDerivation,
): Promise<Candidate[]> {
  const nameOf = (path: string): string => parseStorePath(path, nix.storeDir).name;
  const built = new Set(derivers);
  const candidates: Candidate[] = [];
  let isKnown = true;
  for (const drvPath of built) {
    const drv = await read(drvPath);
    isKnown &&= drv !== null;
    for (const output of drv ? floatingOutputs(drv) : []) candidates.push({ drvPath, output });
  }
  // All content-addressed paths have fixed outputs, as nearly always: no other file need be read.
  if (isKnown && candidates.length === 0) return [];
  const names = new Set([...paths].map(nameOf));
  for (const drvPath of new Set(drvPaths)) {
    const drv = built.has(drvPath) ? null : await read(drvPath);
    const drvName = nameOf(drvPath).replace(/\.drv$/, '');
    for (const output of drv ? floatingOutputs(drv) : []) {
      if (names.has(outputPathName(drvName, output))) candidates.push({ drvPath, output });
    }
  }
  return candidates;
}

/** Impure outputs have no realisations: each build may have another result. */
function floatingOutputs({ outputs }: Derivation): string[] {
  return [...outputs].flatMap(([name, { path, hash }]) =>
    path === null && hash !== 'impure' ? [name] : [],
  );
}

/** Returns a reader that keeps what it has read: most derivations are inputs of several others. */
function derivationReader(nix: Nix): ReadDerivation {
  const known = new Map<string, Promise<Derivation | null>>();
  const readOne = async (drvPath: string): Promise<Derivation | null> => {
    const file = (nix.evalStore ?? nix).realPath(drvPath);
    if (file === null) return null;
    try {
      return parseDerivation(await readFile(file, 'latin1'), nix.storeDir);
    } catch {
      // It is gone, or of a form that niche does not know. Nothing is published of it.
      return null;
    }
  };
  return (drvPath) => {
    const read = known.get(drvPath) ?? readOne(drvPath);
    known.set(drvPath, read);
    return read;
  };
}

/** Asks Nix for outputs, in halves where it fails. Returns full paths by id and by name. */
async function askOutputs(
  nix: Nix,
  candidates: readonly Candidate[],
  { config = [], ...options }: AskOptions,
): Promise<ReadonlyMap<string, string>> {
  const minor = minorVersion(nix.version);
  const command = minor >= 35 ? ['store', 'build-trace', 'info'] : ['realisation', 'info'];
  // Nix before 2.13 knows no way to select outputs.
  const installables = candidates.map(({ drvPath, output }) =>
    minor >= 13 ? `${drvPath}^${output}` : drvPath,
  );
  const outputs = new Map<string, string>();
  let asks = 0;

  async function ask(group: readonly string[]): Promise<void> {
    if (asks === maxAsks) return;
    asks += 1;
    const printed = await nix.ask('nix', [...command, '--offline', '--json', ...group], {
      ...options,
      config: [...config, caDerivations],
    });
    if (printed.status === 0) {
      const text = printed.stdout.toString('utf8');
      for (const [key, path] of parsePrintedRealisations(text, nix.storeDir))
        outputs.set(key, path);
    } else if (group.length > 1) {
      const middle = Math.ceil(group.length / 2);
      await ask(group.slice(0, middle));
      await ask(group.slice(middle));
    }
  }

  for (const group of chunked([...new Set(installables)])) await ask(group);
  return outputs;
}

/** Returns 34 for `nix (Nix) 2.34.8`. */
function minorVersion(version: string): number {
  return Number(/\b2\.(\d+)/.exec(version)?.[1] ?? 0);
}
