import { isNicheError } from '../../core/errors.ts';
import type { GraphQuery } from './build-arguments.ts';
import { evaluateRoots, needsBuild, readGraph, type Graph } from './graph.ts';
import type { NixConfigEntry } from '../nix/nix-config.ts';
import type { Nix } from '../nix/nix.ts';

export interface FollowGraphOptions {
  /** Nix configuration of the build, such as substituters. */
  readonly config: readonly NixConfigEntry[];
  /** Aborted when the build has ended. */
  readonly ended: AbortSignal;
  /** Stops at once. */
  readonly signal: AbortSignal;
}

/**
 * Yields a build's graph as soon as it is known, and again when the build has ended. The second one
 * includes paths that another Nix built while this one waited for its lock.
 *
 * @throws NicheError `nix-failed` when Nix cannot evaluate the graph; `aborted`
 */
export async function* followGraph(
  nix: Nix,
  query: GraphQuery,
  { config, ended, signal }: FollowGraphOptions,
): AsyncGenerator<Graph> {
  const options = { config, signal };
  const during = { ...options, duringBuild: true };
  const roots = await evaluateRoots(nix, query, during).catch(async (error: unknown) => {
    if (!isNicheError(error, 'nix-failed') || !needsBuild(error)) throw error;
    // At its end the build has built the derivations that the evaluation imports from.
    await aborting(ended, signal);
    return evaluateRoots(nix, query, { ...options, duringBuild: false });
  });
  if (!ended.aborted) {
    yield await readGraph(nix, roots, signal);
    await aborting(ended, signal);
  }
  yield await readGraph(nix, roots, signal);
}

/** Resolves when any of `signals` is aborted. */
export async function aborting(...signals: readonly AbortSignal[]): Promise<void> {
  const any = AbortSignal.any([...signals]);
  if (any.aborted) return;
  await new Promise((resolve) => {
    any.addEventListener('abort', resolve, { once: true });
  });
}
