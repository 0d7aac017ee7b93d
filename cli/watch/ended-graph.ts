import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

import { isNicheError } from '../../core/errors.ts';
import { parseDerivation } from '../../core/nix/derivation.ts';
import type { Nix } from '../nix/nix.ts';
import { queryPathInfos } from '../nix/query.ts';
import type { GraphQuery } from './build-arguments.ts';
import type { BuildGraph } from './build-graph.ts';
import { readGraph, type Graph } from './graph.ts';

/** What is known about a command after it has ended. */
export interface EndedBuild {
  /** Its exit status. */
  readonly status: number;
  /** The store paths that its links point to; null when it makes none. */
  readonly outLinks: readonly string[] | null;
  /** The derivations that it built, or tried to. */
  readonly derivations: ReadonlySet<string>;
  /** How to evaluate its derivations, and their graph; null when this is not possible. */
  readonly query: GraphQuery | null;
  readonly graph: BuildGraph | null;
  readonly signal: AbortSignal;
}

/** Exit statuses from here on mean that a signal ended the command. */
const firstSignalStatus = 128;

/**
 * Returns the graph of a build that has ended, with the outputs that an earlier build left. It begins with
 * the linked results. Evaluating once more can take as long as the first time, even for a flake: so it
 * only happens where the links do not show the graph.
 *
 * @throws NicheError `nix-failed`, `malformed-derivation`, `aborted`
 */
export async function readEndedGraph(nix: Nix, build: EndedBuild): Promise<Graph> {
  const { outLinks, derivations, signal } = build;
  const { valid: results } = await queryPathInfos(nix, outLinks ?? [], { signal });
  const isStored = (drvPath: string): boolean => {
    const file = derivationFile(nix, drvPath);
    return file !== null && existsSync(file);
  };
  const derivers = results.flatMap(({ deriver }) => deriver ?? []).filter(isStored);
  const isComplete =
    build.status === 0 && outLinks !== null && !(await anyWithoutInputs(nix, derivers));
  const evaluated = isComplete ? [] : await evaluate(build);
  const roots = new Set([...derivers, ...[...derivations].filter(isStored), ...evaluated]);
  const graph = await readGraph(nix, [...roots], signal);
  return { ...graph, outputs: [...results, ...graph.outputs] };
}

/**
 * Returns whether one of `drvPaths` needs no other derivation. With content-addressed inputs Nix builds a
 * resolved derivation instead of the evaluated one: it has the inputs' outputs, but not their derivations.
 */
async function anyWithoutInputs(nix: Nix, drvPaths: readonly string[]): Promise<boolean> {
  for (const drvPath of drvPaths) {
    const file = derivationFile(nix, drvPath);
    if (file === null) return true;
    const text = await readFile(file, 'latin1');
    if (parseDerivation(text, nix.storeDir).inputDrvs.size === 0) return true;
  }
  return false;
}

function derivationFile(nix: Nix, drvPath: string): string | null {
  return (nix.evalStore ?? nix).realPath(drvPath);
}

async function evaluate({ status, query, graph }: EndedBuild): Promise<readonly string[]> {
  // nix-build exits with 1 when the evaluation fails, and it would fail again.
  const failed = query?.evaluation?.tool === 'nix-instantiate' && status === 1;
  if (graph === null || failed || status >= firstSignalStatus) return [];
  try {
    return await graph.roots();
  } catch (error) {
    // The command has printed the reason.
    if (status !== 0 && isNicheError(error, 'nix-failed')) return [];
    throw error;
  }
}
