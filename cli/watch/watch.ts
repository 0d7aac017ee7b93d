import { isNicheError, messageOf, quote, type NicheError } from '../../core/errors.ts';
import type { LocalPathInfo } from '../../core/nix/path-info.ts';
import { parseStorePath } from '../../core/nix/store-path.ts';
import { graphQuestionOf, hasOwnHook } from './build-arguments.ts';
import type { Environment } from '../environment.ts';
import { aborting, followGraph } from './follow-graph.ts';
import { installHook, type Hook } from './hook.ts';
import { appendNixConfig, type NixConfigEntry } from '../nix/nix-config.ts';
import { nixCommandFeature, type Nix } from '../nix/nix.ts';
import { queryOutputs } from '../nix/query.ts';
import { createQueue } from './queue.ts';
import { makeSessionFolder, sessionBases } from './session-folder.ts';
import { readSpool, type SpoolEntry } from './spool.ts';
import { watchStore } from './store-watcher.ts';

/** A store path that was built, or that the build's graph had before. */
export interface NoticedPath {
  readonly path: string;
  /** The derivation that it is an output of, where that is known. */
  readonly drvPath: string | null;
  /** Built now, as the hook or the store's folder shows; or of the graph and valid. */
  readonly source: 'hook' | 'store' | 'graph';
  /** What the store knows of it, where it was asked already. */
  readonly info: LocalPathInfo | null;
}

export interface NoticeOptions {
  readonly nix: Nix;
  /** The environment that niche was called with. */
  readonly env: Environment;
  readonly command: string;
  readonly args: readonly string[];
  /** Configuration for the command and what it starts, such as substituters. */
  readonly config?: readonly NixConfigEntry[];
  /** Told of what will not be noticed, or could not be. */
  readonly onWarning: (message: string) => void;
}

export interface Noticing {
  /** The environment to run the command in. */
  readonly env: Environment;
  /** Each noticed path once, while the command runs and after; for one reader. */
  readonly paths: AsyncIterable<NoticedPath>;
  /** To be called with the id of the command's process. */
  readonly nixStarted: (pid: number) => void;
  /** To be called when the command has ended: what is left is noticed, then `paths` ends. */
  readonly nixEnded: () => void;
  /** Stops noticing where it still goes on, and removes the hook: nix must have ended. */
  readonly close: () => Promise<void>;
}

/**
 * Gets ready to notice what a command builds through nix. To be called before the command starts.
 *
 * @throws NicheError `usage` when there is no place for the hook
 */
export async function startNoticing(options: NoticeOptions): Promise<Noticing> {
  const { nix, env, command, args, config = [], onWarning } = options;
  const ended = new AbortController();
  const closed = new AbortController();
  const signals = { ended: ended.signal, signal: closed.signal };
  const queue = createQueue<NoticedPath>();
  const seen = new Set<string>();
  const notice = (noticed: NoticedPath): void => {
    if (seen.has(noticed.path)) return;
    seen.add(noticed.path);
    queue.push(noticed);
  };
  const noticeInfo = (source: 'store' | 'graph', info: LocalPathInfo): void => {
    notice({ path: info.path, drvPath: info.deriver, source, info });
  };

  const question = graphQuestionOf(command, args, nix.storeDir);
  const graphDerivations = Promise.withResolvers<ReadonlySet<string> | null>();

  async function noticeGraph(): Promise<void> {
    try {
      if (question === null) return;
      for await (const graph of followGraph(nix, question, { config, ...signals })) {
        graphDerivations.resolve(graph.derivations);
        for (const info of graph.outputs) noticeInfo('graph', info);
      }
    } catch (error) {
      if (!isNicheError(error, 'nix-failed')) throw error;
      graphDerivations.resolve(null);
      // Where the command fails for the same reason, it tells it first, and at length.
      await aborting(ended.signal);
      onWarning(
        `what was built before is not cached, since nix cannot list it: ${reasonOf(error)}`,
      );
    } finally {
      graphDerivations.resolve(null);
    }
  }

  async function noticeHook({ spoolFile }: Hook): Promise<void> {
    for await (const entry of readSpool(spoolFile, signals)) {
      try {
        for (const path of await outputsOf(nix, entry)) {
          notice({ path, drvPath: entry.drvPath, source: 'hook', info: null });
        }
      } catch (error) {
        if (isNicheError(error, 'aborted')) throw error;
        onWarning(`cannot tell what ${quote(entry.drvPath)} made: ${messageOf(error)}`);
      }
    }
  }

  async function noticeStore(watched: AsyncIterable<LocalPathInfo>): Promise<void> {
    let unknown = 0;
    for await (const info of watched) {
      const derivations = await graphDerivations.promise;
      const isWanted = question === null || derivations?.has(info.deriver ?? '') === true;
      if (isWanted) noticeInfo('store', info);
      else if (derivations === null) unknown++;
    }
    if (unknown > 0) {
      onWarning(
        `${unknown} paths were built on this machine, but whether by this build is unknown`,
      );
    }
  }

  const usesHook = nix.trusted && !hasOwnHook(args);
  if (!usesHook) {
    const why = nix.trusted ? 'the command sets a post-build hook' : 'nix does not trust this user';
    const which = question === null ? ', other builds may be among them' : '';
    onWarning(`${why}: built paths are noticed in the store's folder${which}`);
  }
  const folder = usesHook ? makeSessionFolder(sessionBases(env)) : null;
  const hook =
    folder && installHook({ folder: folder.folder, previousHook: nix.settings.postBuildHook });
  const built = hook ? noticeHook(hook) : noticeStore(await watchStore(nix, signals));
  const all = Promise.all([built, noticeGraph()]).then(queue.end, (error: unknown) => {
    if (isNicheError(error, 'aborted')) queue.end();
    else queue.fail(error);
  });

  const hookConfig: NixConfigEntry[] = hook ? [['post-build-hook', hook.hookFile]] : [];
  const entries = [nixCommandFeature, ...config, ...hookConfig];
  return {
    env: { ...env, NIX_CONFIG: appendNixConfig(env['NIX_CONFIG'], entries) },
    paths: queue.items,
    nixStarted: (pid) => folder?.keepFor(pid),
    nixEnded: () => {
      ended.abort();
    },
    close: async () => {
      ended.abort();
      closed.abort();
      await all;
      folder?.remove();
    },
  };
}

/** Of what nix said, the line that counts: a trace may come before it, and an excerpt after. */
function reasonOf({ message }: NicheError): string {
  const line = message.split('\n').findLast((text) => /^\s*error: ./u.test(text));
  return line?.trim() ?? message;
}

async function outputsOf(nix: Nix, { drvPath, outPath }: SpoolEntry): Promise<readonly string[]> {
  const paths = outPath === null ? await queryOutputs(nix, drvPath) : [outPath];
  return paths.map((path) => parseStorePath(path, nix.storeDir).path);
}
