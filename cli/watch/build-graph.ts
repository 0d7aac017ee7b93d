import { isNicheError } from '../../core/errors.ts';
import type { NixConfigEntry } from '../nix/nix-config.ts';
import type { Nix } from '../nix/nix.ts';
import { aborting } from './aborting.ts';
import type { GraphQuery } from './build-arguments.ts';
import { evaluateRoots, needsBuild, readGraph } from './graph.ts';

export interface BuildGraphOptions {
  /** Nix configuration of the build, such as substituters. */
  readonly config: readonly NixConfigEntry[];
  /** Aborted when the build has ended. */
  readonly ended: AbortSignal;
  /** Stops at once. */
  readonly signal: AbortSignal;
}

/** A command's graph of derivations. It is evaluated when it is first needed, and only once. */
export interface BuildGraph {
  /**
   * Returns all derivations that the command may build.
   *
   * @throws NicheError `nix-failed` when Nix cannot evaluate them; `aborted`
   */
  readonly derivations: () => Promise<ReadonlySet<string>>;
  /**
   * Returns the derivations that the command requests. Call it after the build: a flake is then read
   * from Nix's evaluation cache.
   *
   * @throws NicheError `nix-failed` when Nix cannot evaluate them; `aborted`
   */
  readonly roots: () => Promise<readonly string[]>;
}

export function createBuildGraph(
  nix: Nix,
  query: GraphQuery,
  { config, ended, signal }: BuildGraphOptions,
): BuildGraph {
  const evaluate = (duringBuild: boolean): Promise<readonly string[]> =>
    evaluateRoots(nix, query, { config, signal, duringBuild });
  let roots: Promise<readonly string[]> | undefined;

  async function evaluateNow(): Promise<readonly string[]> {
    if (!ended.aborted) {
      try {
        return await evaluate(true);
      } catch (error) {
        if (!isNicheError(error, 'nix-failed') || !needsBuild(error)) throw error;
      }
      // At its end the build has built the derivations that the evaluation imports from.
      await aborting(ended, signal);
    }
    return evaluate(false);
  }

  const rootsOnce = (): Promise<readonly string[]> => (roots ??= evaluateNow());
  return {
    derivations: async () => (await readGraph(nix, await rootsOnce(), signal)).derivations,
    roots: rootsOnce,
  };
}
