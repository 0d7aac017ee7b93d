import { isNicheError, messageOf, quote } from '../../core/errors.ts';
import { parseStorePath } from '../../core/nix/store-path.ts';
import type { Nix } from '../nix/nix.ts';
import { queryOutputs } from '../nix/query.ts';
import type { BuildSource, BuiltPath, SourceSignals } from './source.ts';
import { readSpool, type SpoolEntry } from './spool.ts';
import type { UsableHook } from './usable-hook.ts';

export interface HookSourceOptions extends SourceSignals {
  readonly onWarning: (message: string) => void;
}

/** Returns the outputs that `hook` records. */
export function createHookSource(
  nix: Nix,
  { hookFile, spoolFile, session }: UsableHook,
  { onWarning, ...signals }: HookSourceOptions,
): BuildSource {
  const derivations = new Set<string>();
  async function* read(): AsyncGenerator<BuiltPath> {
    for await (const entry of readSpool(spoolFile, signals)) {
      const { drvPath } = entry;
      try {
        derivations.add(parseStorePath(drvPath, nix.storeDir).path);
        for (const path of await outputsOf(nix, entry)) {
          yield { path, drvPath, source: 'hook', info: null };
        }
      } catch (error) {
        if (isNicheError(error, 'aborted')) throw error;
        onWarning(`cannot find the outputs of ${quote(drvPath)}: ${messageOf(error)}`);
      }
    }
  }
  return {
    config: [['post-build-hook', hookFile]],
    derivations,
    paths: read(),
    keepFor: session.keepFor,
    close: session.remove,
  };
}

async function outputsOf(nix: Nix, { drvPath, outPath }: SpoolEntry): Promise<readonly string[]> {
  const paths = outPath === null ? await queryOutputs(nix, drvPath) : [outPath];
  return paths.map((path) => parseStorePath(path, nix.storeDir).path);
}
