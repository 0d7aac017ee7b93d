import { type LocalPathInfo } from '../../core/nix/path-info.ts';
import { askText } from './ask.ts';
import { withoutOutputs, type GraphQuestion } from './build-arguments.ts';
import type { NixConfigEntry } from './nix-config.ts';
import type { Nix } from './nix.ts';
import { queryGraph, queryPathInfos } from './query.ts';

export interface GraphOptions {
  /** Configuration that the build itself has too, such as substituters. */
  readonly config: readonly NixConfigEntry[];
  readonly signal: AbortSignal;
}

/** What the store holds of a build's graph at one moment. */
export interface Graph {
  /** Every derivation that the build may have to build. */
  readonly derivations: ReadonlySet<string>;
  /** The outputs of those that are valid already. */
  readonly outputs: readonly LocalPathInfo[];
}

/**
 * The derivations that the command names, by evaluating once more.
 *
 * @throws NicheError `nix-failed` when they cannot be evaluated, also while an import from a
 *   derivation is not built, see {@link needsBuilds}; `aborted`
 */
export async function evaluateRoots(
  nix: Nix,
  { drvPaths, evaluation }: GraphQuestion,
  options: GraphOptions,
): Promise<readonly string[]> {
  if (evaluation === null) return drvPaths;
  const printed = await askText(nix.ask, evaluation.tool, evaluation.args, options);
  const evaluated = printed.split('\n').map(withoutOutputs);
  // Installables may also be plain store paths, of which no derivation is known.
  return [...drvPaths, ...evaluated.filter((line) => line.endsWith('.drv'))];
}

/** Whether an evaluation failed only because niche lets it build nothing. */
export function needsBuilds(error: Error): boolean {
  return error.message.includes('max-jobs');
}

/**
 * The graph below `roots`, as it stands.
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
    // What no derivation made is a source.
    outputs: valid.filter(({ deriver }) => deriver !== null),
  };
}
