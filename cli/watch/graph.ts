import { type LocalPathInfo } from '../../core/nix/path-info.ts';
import { askText } from '../nix/ask.ts';
import { withoutOutputs, type GraphQuestion } from './build-arguments.ts';
import type { NixConfigEntry } from '../nix/nix-config.ts';
import type { Nix } from '../nix/nix.ts';
import { queryGraph, queryPathInfos } from '../nix/query.ts';

export interface EvaluateOptions {
  /** Configuration that the build itself has too, such as substituters. */
  readonly config: readonly NixConfigEntry[];
  readonly signal: AbortSignal;
  /** Whether the build still runs, see {@link needsBuild}. */
  readonly besideBuild: boolean;
}

/** What the store holds of a build's graph at one moment. */
export interface Graph {
  /** Every derivation that the build may have to build. */
  readonly derivations: ReadonlySet<string>;
  /** The outputs of those that are valid already. */
  readonly outputs: readonly LocalPathInfo[];
}

/** No import from a derivation, so that nothing is built or locked. */
const importNothing = ['--option', 'allow-import-from-derivation', 'false'];
/** What the build built may be imported, and nothing else. */
const buildNothing = ['--max-jobs', '0', '--builders', ''];

/**
 * The derivations that the command names, by evaluating once more. Beside the build it must stay
 * out of its way: if both came to the same import at once, one would wait for the other's lock,
 * which nix looks at every five seconds only.
 *
 * @throws NicheError `nix-failed` when they cannot be evaluated; `aborted`
 */
export async function evaluateRoots(
  nix: Nix,
  { drvPaths, evaluation }: GraphQuestion,
  { besideBuild, ...options }: EvaluateOptions,
): Promise<readonly string[]> {
  if (evaluation === null) return drvPaths;
  const { tool, before, after } = evaluation;
  const args = [...before, ...(besideBuild ? importNothing : buildNothing), ...after];
  const printed = await askText(nix.ask, tool, args, options);
  const evaluated = printed.split('\n').map(withoutOutputs);
  // Installables may also be plain store paths, of which no derivation is known.
  return [...drvPaths, ...evaluated.filter((line) => line.endsWith('.drv'))];
}

/** Whether an evaluation beside a build failed only for an import from a derivation. */
export function needsBuild(error: Error): boolean {
  return error.message.includes("'allow-import-from-derivation'");
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
