import { type LocalPathInfo } from '../../core/nix/path-info.ts';
import { askText } from '../nix/ask.ts';
import { withoutOutputs, type GraphQuery } from './build-arguments.ts';
import type { NixConfigEntry } from '../nix/nix-config.ts';
import type { Nix } from '../nix/nix.ts';
import { queryGraph, queryPathInfos } from '../nix/query.ts';

export interface EvaluateOptions {
  /** Nix configuration of the build, such as substituters. */
  readonly config: readonly NixConfigEntry[];
  readonly signal: AbortSignal;
  /** Whether the build still runs, see {@link evaluateRoots}. */
  readonly duringBuild: boolean;
}

/** A build's graph and its valid paths at one moment. */
export interface Graph {
  /** All derivations that the build may build. */
  readonly derivations: ReadonlySet<string>;
  /** Their outputs that are valid already. */
  readonly outputs: readonly LocalPathInfo[];
}

/** Prevents import from derivation, so that the evaluation builds and locks nothing. */
const importNothing = ['--option', 'allow-import-from-derivation', 'false'];
/** Leaves the evaluation cache to the build. */
const cacheNothing = ['--option', 'eval-cache', 'false'];
/** Allows import from derivations that are already built. */
const buildNothing = ['--max-jobs', '0', '--builders', ''];

/**
 * Evaluates the command's derivations a second time. During the build it must not import from a
 * derivation: it would contend with the build for a lock, which Nix polls only every five seconds. Nor
 * may it use the evaluation cache, which the build locks: the build would print that it is busy.
 *
 * @throws NicheError `nix-failed` when they cannot be evaluated; `aborted`
 */
export async function evaluateRoots(
  nix: Nix,
  { drvPaths, evaluation }: GraphQuery,
  { duringBuild, ...options }: EvaluateOptions,
): Promise<readonly string[]> {
  if (evaluation === null) return drvPaths;
  const { tool, before, after } = evaluation;
  const limits = duringBuild ? [...importNothing, ...cacheNothing] : buildNothing;
  const args = [...before, ...limits, ...after];
  // Only the store that Nix evaluates in has the derivations before the build.
  const { ask } = nix.evalStore ?? nix;
  const printed = await askText(ask, tool, args, options);
  const evaluated = printed.split('\n').map(withoutOutputs);
  // An installable may also be a store path, whose derivation is not known.
  return [...drvPaths, ...evaluated.filter((line) => line.endsWith('.drv'))];
}

/** Returns whether an evaluation failed only because it imports from a derivation. */
export function needsBuild(error: Error): boolean {
  return error.message.includes("'allow-import-from-derivation'");
}

/**
 * Reads the graph below `roots` as it is now.
 *
 * @throws NicheError `nix-failed`, `aborted`
 */
export async function readGraph(
  nix: Nix,
  roots: readonly string[],
  signal: AbortSignal,
): Promise<Graph> {
  const all = roots.length === 0 ? [] : await queryGraph(nix, roots, { signal });
  const isDerivation = (path: string): boolean => path.endsWith('.drv');
  const others = all.filter((path) => !isDerivation(path));
  const { valid } = await queryPathInfos(nix, others, { signal });
  return {
    derivations: new Set(all.filter(isDerivation)),
    // A path without a deriver is a source.
    outputs: valid.filter(({ deriver }) => deriver !== null),
  };
}
