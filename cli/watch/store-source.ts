import { isNicheError } from '../../core/errors.ts';
import type { Nix } from '../nix/nix.ts';
import { aborting } from './aborting.ts';
import type { BuildGraph } from './build-graph.ts';
import type { BuildSource, BuiltPath, SourceSignals } from './source.ts';
import { watchStore } from './store-watcher.ts';

export interface StoreSourceOptions extends SourceSignals {
  /** The graph that the paths must belong to; null for all paths. */
  readonly graph: BuildGraph | null;
  readonly onWarning: (message: string) => void;
}

/** Returns a source without paths, which ends with the build. */
export function createIdleSource({ ended, signal }: SourceSignals): BuildSource {
  async function* read(): AsyncGenerator<BuiltPath> {
    await aborting(ended, signal);
  }
  return withoutFiles(read());
}

/**
 * Returns the paths that become valid in the store.
 *
 * @param folder where the store directory is on disk
 */
export async function openStoreSource(
  nix: Nix,
  folder: string,
  { graph, onWarning, ...signals }: StoreSourceOptions,
): Promise<BuildSource> {
  const built = await watchStore(nix, folder, signals);

  async function* read(): AsyncGenerator<BuiltPath> {
    let derivations: ReadonlySet<string> | null | undefined;
    let unknown = 0;
    for await (const info of built) {
      // Evaluated with the first path: before it, the build itself is still evaluating.
      if (graph !== null) derivations ??= await derivationsOf(graph);
      if (graph === null || derivations?.has(info.deriver ?? '') === true) {
        yield { path: info.path, drvPath: info.deriver, source: 'store', info };
      } else if (derivations === null) unknown++;
    }
    if (unknown > 0) {
      onWarning(`skipped ${unknown} paths that this build or another one on this machine built`);
    }
  }
  return withoutFiles(read());
}

/** Returns a source that has no files and configures nothing. */
function withoutFiles(paths: AsyncIterable<BuiltPath>): BuildSource {
  return {
    config: [],
    derivations: new Set(),
    paths,
    keepFor: () => undefined,
    close: () => undefined,
  };
}

async function derivationsOf(graph: BuildGraph): Promise<ReadonlySet<string> | null> {
  try {
    return await graph.derivations();
  } catch (error) {
    if (isNicheError(error, 'nix-failed')) return null;
    throw error;
  }
}
