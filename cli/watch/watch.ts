import { isNicheError, type NicheError } from '../../core/errors.ts';
import { appendNixConfig, type NixConfigEntry } from '../nix/nix-config.ts';
import { nixCommandFeature, type Nix } from '../nix/nix.ts';
import type { Environment } from '../process/environment.ts';
import { graphQueryOf, hasOwnHook, isNixBuild } from './build-arguments.ts';
import { createBuildGraph, type BuildGraph } from './build-graph.ts';
import { readEndedGraph } from './ended-graph.ts';
import { createHookSource } from './hook-source.ts';
import { openLogSource } from './log-source.ts';
import { watchOutLinks } from './out-links.ts';
import { createQueue } from './queue.ts';
import { firstSessionFolder, sessionBases, type SessionFolder } from './session-folder.ts';
import type { BuildSource, BuiltPath, SourceSignals } from './source.ts';
import { createIdleSource, openStoreSource } from './store-source.ts';
import { installUsableHook, type UsableHook } from './usable-hook.ts';

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
  /** The arguments to run the command with. */
  readonly args: readonly string[];
  /** Each built path once, while the command runs and after; for one reader. */
  readonly paths: AsyncIterable<BuiltPath>;
  /** The derivations of the build's graph; complete when `paths` has ended. */
  readonly derivations: ReadonlySet<string>;
  /** Call it with the process id of the command. */
  readonly commandStarted: (pid: number) => void;
  /** Call it with the exit status of the command: `paths` yields the remaining paths, then ends. */
  readonly commandEnded: (status: number) => void;
  /** Stops watching and removes the hook. Nix must have ended. */
  readonly close: () => Promise<void>;
}

/** Prepares to find the paths that a command builds with Nix. Call it before the command starts. */
export async function watchBuild(options: WatchOptions): Promise<BuildWatch> {
  const { nix, env, command, args, config = [], onWarning } = options;
  const ended = new AbortController();
  const closed = new AbortController();
  const signals = { ended: ended.signal, signal: closed.signal };
  const query = graphQueryOf(command, args, nix.storeDir);
  const graph = query && createBuildGraph(nix, query, { config, ...signals });
  const session = firstSessionFolder(sessionBases(env, nix.cwd));
  const source = await openSource(options, graph, session, signals);
  // Nix makes no links to paths on another machine.
  const canLink = session !== null && nix.realStoreDir !== null;
  const links = canLink ? watchOutLinks(nix, command, args, session.folder) : null;
  const queue = createQueue<BuiltPath>();
  const seen = new Set<string>();
  const derivations = new Set<string>();
  let status = 0;

  const report = (built: BuiltPath): void => {
    if (seen.has(built.path)) return;
    seen.add(built.path);
    queue.push(built);
  };

  async function watchAll(): Promise<void> {
    for await (const built of source.paths) report(built);
    const { signal } = closed;
    const outLinks = links?.read() ?? null;
    for (const drvPath of source.derivations) derivations.add(drvPath);
    const build = { status, outLinks, derivations, query, graph, signal };
    const known = await readEndedGraph(nix, build);
    for (const drvPath of known.derivations) derivations.add(drvPath);
    for (const info of known.outputs) {
      report({ path: info.path, drvPath: info.deriver, source: 'graph', info });
    }
  }

  const all = watchAll().then(queue.end, (error: unknown) => {
    if (isNicheError(error, 'aborted')) queue.end();
    else if (isNicheError(error, 'nix-failed')) {
      onWarning(`paths built earlier are not uploaded: nix cannot list them: ${reasonOf(error)}`);
      queue.end();
    } else queue.fail(error);
  });
  const entries = [nixCommandFeature, ...config, ...source.config];
  return {
    env: { ...env, NIX_CONFIG: appendNixConfig(env['NIX_CONFIG'], entries) },
    args: links?.args ?? args,
    paths: queue.items,
    derivations,
    commandStarted: (pid) => {
      session?.keepFor(pid);
      source.keepFor(pid);
    },
    commandEnded: (exitStatus) => {
      status = exitStatus;
      ended.abort();
    },
    close: async () => {
      ended.abort();
      closed.abort();
      await all;
      source.close();
      session?.remove();
    },
  };
}

/** Opens the most precise source for the command: the hook, Nix's log, or the store directory. */
async function openSource(
  { nix, env, command, args, onWarning }: WatchOptions,
  graph: BuildGraph | null,
  session: SessionFolder | null,
  signals: SourceSignals,
): Promise<BuildSource> {
  const hook = await chooseHook(nix, env, args);
  if (typeof hook !== 'string') return createHookSource(nix, hook, { onWarning, ...signals });
  const { realStoreDir } = nix;
  if (realStoreDir === null) {
    const what =
      graph === null
        ? 'niche finds only the paths of nix build and nix-build there'
        : 'uploading its paths when the build has ended';
    onWarning(`${hook}: ${what}`);
    return createIdleSource(signals);
  }
  if (session && nix.settings.hasJsonLog && isNixBuild(command, args)) {
    const log = await openLogSource(nix, session.folder, signals);
    if (log !== null) {
      onWarning(`${hook}: finding built paths in nix’s log`);
      return log;
    }
  }
  const which = graph === null ? ', which may include other builds' : '';
  onWarning(`${hook}: finding built paths by watching the store directory${which}`);
  return openStoreSource(nix, realStoreDir, { graph, onWarning, ...signals });
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

/** Returns the line with the error, without the trace before it and the source excerpt after it. */
function reasonOf({ message }: NicheError): string {
  const line = message.split('\n').findLast((text) => /^\s*error: ./u.test(text));
  return line?.trim() ?? message;
}
