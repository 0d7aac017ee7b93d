import { isNicheError } from '../../core/errors.ts';
import type { GraphQuestion } from './build-arguments.ts';
import { evaluateRoots, needsBuild, readGraph, type Graph } from './graph.ts';
import type { NixConfigEntry } from '../nix/nix-config.ts';
import type { Nix } from '../nix/nix.ts';

export interface FollowGraphOptions {
  /** Configuration that the build itself has too, such as substituters. */
  readonly config: readonly NixConfigEntry[];
  /** When aborted, the build has ended. */
  readonly ended: AbortSignal;
  /** Ends it at once. */
  readonly signal: AbortSignal;
}

/**
 * A build's graph as soon as it is known, and once more when the build has ended: what another
 * nix built while this one waited for its lock is nobody's news but then.
 *
 * @throws NicheError `nix-failed` when nix cannot say what the graph is; `aborted`
 */
export async function* followGraph(
  nix: Nix,
  question: GraphQuestion,
  { config, ended, signal }: FollowGraphOptions,
): AsyncGenerator<Graph> {
  const options = { config, signal };
  const beside = { ...options, besideBuild: true };
  const roots = await evaluateRoots(nix, question, beside).catch(async (error: unknown) => {
    if (!isNicheError(error, 'nix-failed') || !needsBuild(error)) throw error;
    // By then the build has built what the evaluation imports.
    await aborting(ended, signal);
    return evaluateRoots(nix, question, { ...options, besideBuild: false });
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
