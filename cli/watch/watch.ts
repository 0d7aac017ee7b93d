import { isNicheError, messageOf, quote, type NicheError } from '../../core/errors.ts';
import type { LocalPathInfo } from '../../core/nix/path-info.ts';
import { parseStorePath } from '../../core/nix/store-path.ts';
import { graphQueryOf, hasOwnHook } from './build-arguments.ts';
import type { GraphQuery } from './build-arguments.ts';
import type { Environment } from '../process/environment.ts';
import { aborting, followGraph } from './follow-graph.ts';
import type { Hook } from './hook.ts';
import { appendNixConfig, type NixConfigEntry } from '../nix/nix-config.ts';
import { nixCommandFeature, type Nix } from '../nix/nix.ts';
import { queryOutputs } from '../nix/query.ts';
import { createQueue } from './queue.ts';
import { readSpool, type SpoolEntry } from './spool.ts';
import { watchStore } from './store-watcher.ts';
import { installUsableHook, type UsableHook } from './usable-hook.ts';

/** A store path that was built, or that was valid in the build's graph before. */
export interface BuiltPath {
  readonly path: string;
  /** The derivation that it is an output of, if known. */
  readonly drvPath: string | null;
  /** How it was found: by the hook, in the store directory, or in the build's graph. */
  readonly source: 'hook' | 'store' | 'graph';
  /** Its info, if the store was queried already. */
  readonly info: LocalPathInfo | null;
}

export interface WatchOptions {
  readonly nix: Nix;
  /** The environment of niche. */
  readonly env: Environment;
  readonly command: string;
  readonly args: readonly string[];
  /** Nix configuration for the command, such as substituters. */
  readonly config?: readonly NixConfigEntry[];
  /** Called when built paths will be missed, or were. */
  readonly onWarning: (message: string) => void;
}

export interface BuildWatch {
  /** The environment to run the command in. */
  readonly env: Environment;
  /** Each built path once, while the command runs and after; for one reader. */
  readonly paths: AsyncIterable<BuiltPath>;
  /** The derivations of the build's graph; complete when `paths` has ended. */
  readonly derivations: ReadonlySet<string>;
  /** Call it with the process id of the command. */
  readonly commandStarted: (pid: number) => void;
  /** Call it when the command has ended: `paths` yields the remaining paths, then ends. */
  readonly commandEnded: () => void;
  /** Stops watching and removes the hook. Nix must have ended. */
  readonly close: () => Promise<void>;
}

/**
 * Prepares to find the paths that a command builds with Nix. Call it before the command starts.
 */
export async function watchBuild(options: WatchOptions): Promise<BuildWatch> {
  const { nix, env, command, args, config = [], onWarning } = options;
  const ended = new AbortController();
  const closed = new AbortController();
  const signals = { ended: ended.signal, signal: closed.signal };
  const queue = createQueue<BuiltPath>();
  const seen = new Set<string>();
  const derivations = new Set<string>();
  const report = (built: BuiltPath): void => {
    if (seen.has(built.path)) return;
    seen.add(built.path);
    queue.push(built);
  };
  const reportInfo = (source: 'store' | 'graph', info: LocalPathInfo): void => {
    report({ path: info.path, drvPath: info.deriver, source, info });
  };

  const query = graphQueryOf(command, args, nix.storeDir);
  const graphDerivations = Promise.withResolvers<ReadonlySet<string> | null>();

  async function watchGraph(): Promise<void> {
    try {
      if (query === null) return;
      for await (const graph of followGraph(nix, query, { config, ...signals })) {
        graphDerivations.resolve(graph.derivations);
        for (const drvPath of graph.derivations) derivations.add(drvPath);
        for (const info of graph.outputs) reportInfo('graph', info);
      }
    } catch (error) {
      if (!isNicheError(error, 'nix-failed')) throw error;
      graphDerivations.resolve(null);
      // If the command fails for the same reason, its own message comes first.
      await aborting(ended.signal);
      onWarning(`paths built earlier are not uploaded: nix cannot list them: ${reasonOf(error)}`);
    } finally {
      graphDerivations.resolve(null);
    }
  }

  async function watchSpool({ spoolFile }: Hook): Promise<void> {
    for await (const entry of readSpool(spoolFile, signals)) {
      try {
        derivations.add(parseStorePath(entry.drvPath, nix.storeDir).path);
        for (const path of await outputsOf(nix, entry)) {
          report({ path, drvPath: entry.drvPath, source: 'hook', info: null });
        }
      } catch (error) {
        if (isNicheError(error, 'aborted')) throw error;
        onWarning(`cannot find the outputs of ${quote(entry.drvPath)}: ${messageOf(error)}`);
      }
    }
  }

  async function filterStore(built: AsyncIterable<LocalPathInfo>): Promise<void> {
    let unknown = 0;
    for await (const info of built) {
      const derivations = await graphDerivations.promise;
      const isWanted = query === null || derivations?.has(info.deriver ?? '') === true;
      if (isWanted) reportInfo('store', info);
      else if (derivations === null) unknown++;
    }
    if (unknown > 0) {
      onWarning(`skipped ${unknown} paths that this build or another one on this machine built`);
    }
  }

  const hook = await chooseHook(nix, env, args);
  const { realStoreDir } = nix;
  if (typeof hook === 'string') onWarning(`${hook}: ${describeFallback(nix, query)}`);
  const usable = typeof hook === 'string' ? null : hook;
  const watched =
    usable || realStoreDir === null ? null : await watchStore(nix, realStoreDir, signals);
  const built = usable ? watchSpool(usable) : watched && filterStore(watched);
  const all = Promise.all([built, watchGraph()]).then(queue.end, (error: unknown) => {
    if (isNicheError(error, 'aborted')) queue.end();
    else queue.fail(error);
  });

  const hookConfig: NixConfigEntry[] = usable ? [['post-build-hook', usable.hookFile]] : [];
  const entries = [nixCommandFeature, ...config, ...hookConfig];
  return {
    env: { ...env, NIX_CONFIG: appendNixConfig(env['NIX_CONFIG'], entries) },
    paths: queue.items,
    derivations,
    commandStarted: (pid) => usable?.session.keepFor(pid),
    commandEnded: () => {
      ended.abort();
    },
    close: async () => {
      ended.abort();
      closed.abort();
      await all;
      usable?.session.remove();
    },
  };
}

/** Returns the hook for a command, or why it has none. */
async function chooseHook(
  nix: Nix,
  env: Environment,
  args: readonly string[],
): Promise<UsableHook | string> {
  // Nix passes no hook on through SSH, and this machine would not see its spool.
  if (nix.realStoreDir === null) return 'the store is on another machine';
  if (!nix.trusted) return 'nix does not trust this user';
  if (hasOwnHook(args)) return 'the command sets a post-build hook';
  return installUsableHook(nix, env);
}

/** Describes how built paths are found without a hook. */
function describeFallback({ realStoreDir }: Nix, query: GraphQuery | null): string {
  if (realStoreDir === null) {
    return query === null
      ? 'niche finds only the paths of nix build and nix-build there'
      : 'uploading its paths when the build has ended';
  }
  const which = query === null ? ', which may include other builds' : '';
  return `finding built paths by watching the store directory${which}`;
}

/** Returns the line with the error, without the trace before it and the source excerpt after it. */
function reasonOf({ message }: NicheError): string {
  const line = message.split('\n').findLast((text) => /^\s*error: ./u.test(text));
  return line?.trim() ?? message;
}

async function outputsOf(nix: Nix, { drvPath, outPath }: SpoolEntry): Promise<readonly string[]> {
  const paths = outPath === null ? await queryOutputs(nix, drvPath) : [outPath];
  return paths.map((path) => parseStorePath(path, nix.storeDir).path);
}
