import type { LocalPathInfo } from '../../core/nix/path-info.ts';
import type { NixConfigEntry } from '../nix/nix-config.ts';

/** A store path that was built, or that was valid in the build's graph before. */
export interface BuiltPath {
  readonly path: string;
  /** The derivation that it is an output of, if known. */
  readonly drvPath: string | null;
  /** How it was found: by the hook, in Nix's log, in the store directory, or in the build's graph. */
  readonly source: 'hook' | 'log' | 'store' | 'graph';
  /** Its info, if the store was queried already. */
  readonly info: LocalPathInfo | null;
}

/** A way to find paths as they are built. */
export interface BuildSource {
  /** Nix configuration for the command. */
  readonly config: readonly NixConfigEntry[];
  /** The derivations that this command built so far, or tried to. Empty for a source that knows none. */
  readonly derivations: ReadonlySet<string>;
  /** The paths, until the build has ended. A path may come several times. */
  readonly paths: AsyncIterable<BuiltPath>;
  /** Keeps the files of the source while the process `pid` runs, even if niche is killed. */
  readonly keepFor: (pid: number) => void;
  /** Removes the files of the source. */
  readonly close: () => void;
}

/** When a source ends. */
export interface SourceSignals {
  /** Aborted when the build has ended: what is left is read, then the source ends. */
  readonly ended: AbortSignal;
  /** Stops at once. */
  readonly signal: AbortSignal;
}
