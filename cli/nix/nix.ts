import { accessSync, constants, statSync } from 'node:fs';
import path from 'node:path';

import { NicheError, quote } from '../../core/errors.ts';
import { askText, type Ask, type NixTool, type Stream } from './ask.ts';
import { capture } from './capture.ts';
import { streamOutput } from './stream-output.ts';
import type { Environment } from '../process/environment.ts';
import { appendNixConfig, type NixConfigEntry } from './nix-config.ts';
import { parseSettings, type NixSettings } from './settings.ts';
import { locateStore, type StoreLocation } from './store-location.ts';
import { askTrust } from './trust.ts';

/** The Nix of this machine. */
export interface Nix {
  /** The full path of each program. */
  readonly programs: Readonly<Record<NixTool, string>>;
  /** As printed by `nix --version`, such as `nix (Nix) 2.34.8`. */
  readonly version: string;
  /** The store directory that store paths begin with. */
  readonly storeDir: string;
  /** Where it is on disk; differs from `storeDir` in a chroot store. Null on another machine. */
  readonly realStoreDir: string | null;
  /** Whether Nix accepts restricted settings, such as a post-build hook, from this user. */
  readonly trusted: boolean;
  readonly settings: NixSettings;
  /** The working directory of `ask`. */
  readonly cwd: string;
  /** Returns where `storePath` is on disk; null on another machine. */
  readonly realPath: (storePath: string) => string | null;
  readonly ask: Ask;
  readonly stream: Stream;
  /** The store that Nix evaluates in, if it is another one: only there are all derivations. */
  readonly evalStore: DerivationStore | null;
}

/** A store, as far as its derivations are concerned. */
export type DerivationStore = Pick<Nix, 'ask' | 'realPath' | 'storeDir'>;

export interface OpenNixOptions {
  readonly env: Environment;
  readonly cwd: string;
  /** The store to use instead of the configured one, as with Nix's `--store`. */
  readonly storeUrl?: string | undefined;
  /** The store to evaluate in instead of the configured one, as with Nix's `--eval-store`. */
  readonly evalStoreUrl?: string | undefined;
}

/** The feature that `nix build` and niche's own queries need. */
export const nixCommandFeature: NixConfigEntry = ['extra-experimental-features', 'nix-command'];

/** Uses the dummy store: with two processes opening the real one, Nix 2.8 can take seconds. */
const storeDirQuery = ['--eval', '--json', '--store', 'dummy://', '--expr', 'builtins.storeDir'];

/**
 * Finds Nix and queries its version, store, settings and trust. The queries run at the same time: each
 * takes 20 to 60 ms, and they precede every build.
 *
 * @throws NicheError `nix-missing` without Nix on `PATH`; `nix-failed` when a query fails; `usage` for
 *   a store that niche cannot read
 */
export async function openNix(options: OpenNixOptions): Promise<Nix> {
  const { env, cwd, storeUrl } = options;
  const programs = {
    nix: findProgram('nix', env),
    'nix-store': findProgram('nix-store', env),
    'nix-instantiate': findProgram('nix-instantiate', env),
  };
  const store: NixConfigEntry[] = storeUrl === undefined ? [] : [['store', storeUrl]];
  const envWith = (config: readonly NixConfigEntry[]): Environment => {
    const entries = [nixCommandFeature, ...store, ...config];
    return { ...env, NIX_CONFIG: appendNixConfig(env['NIX_CONFIG'], entries) };
  };
  const ask: Ask = (tool, args, { config = [], ...more } = {}) =>
    capture(programs[tool], args, { env: envWith(config), cwd, ...more });
  const [version, storeDir, settings, trusted] = await Promise.all([
    askText(ask, 'nix', ['--version']),
    askText(ask, 'nix-instantiate', storeDirQuery),
    askSettings(ask),
    askTrust(ask),
  ]);
  const where = { defaultStoreDir: parseStoreDir(storeDir), env, cwd };
  const { logical, real } = locateStore({ storeUrl: settings.store, ...where });
  const evalStoreUrl = options.evalStoreUrl ?? settings.evalStore;
  return {
    programs,
    version,
    storeDir: logical,
    realStoreDir: real,
    trusted,
    settings,
    cwd,
    realPath: realPathIn({ logical, real }),
    ask,
    stream: (tool, args, signal) =>
      streamOutput(programs[tool], args, { env: envWith([]), cwd, signal }),
    evalStore:
      evalStoreUrl === null || evalStoreUrl === settings.store
        ? null
        : openEvalStore(evalStoreUrl, ask, locateStore({ storeUrl: evalStoreUrl, ...where })),
  };
}

/**
 * Reads Nix's settings alone.
 *
 * @throws NicheError `nix-missing` without Nix on `PATH`; `nix-failed`
 */
export async function readNixSettings({
  env,
  cwd,
}: Pick<OpenNixOptions, 'env' | 'cwd'>): Promise<NixSettings> {
  const program = findProgram('nix', env);
  const askEnv = { ...env, NIX_CONFIG: appendNixConfig(env['NIX_CONFIG'], [nixCommandFeature]) };
  return askSettings((_tool, args) => capture(program, args, { env: askEnv, cwd }));
}

function openEvalStore(url: string, ask: Ask, location: StoreLocation): DerivationStore {
  return {
    storeDir: location.logical,
    realPath: realPathIn(location),
    ask: (tool, args, { config = [], ...options } = {}) =>
      ask(tool, args, { ...options, config: [...config, ['store', url]] }),
  };
}

function realPathIn({ logical, real }: StoreLocation): Nix['realPath'] {
  return (storePath) => (real === null ? null : path.join(real, path.relative(logical, storePath)));
}

async function askSettings(ask: Ask): Promise<NixSettings> {
  const shown = await ask('nix', ['config', 'show', '--json']);
  if (shown.status === 0) return parseSettings(shown.stdout.toString('utf8'));
  // The command's name before Nix 2.20.
  return parseSettings(await askText(ask, 'nix', ['show-config', '--json']));
}

function parseStoreDir(json: string): string {
  const storeDir: unknown = JSON.parse(json);
  if (typeof storeDir === 'string' && storeDir.startsWith('/')) return storeDir;
  throw new NicheError(
    'nix-failed',
    `cannot read Nix's store directory: expected an absolute path, got ${quote(json)}`,
  );
}

function findProgram(name: NixTool, env: Environment): string {
  const folders = (env['PATH'] ?? '').split(path.delimiter).filter((folder) => folder !== '');
  for (const folder of folders) {
    const candidate = path.resolve(folder, name);
    if (isProgram(candidate)) return candidate;
  }
  throw new NicheError('nix-missing', `cannot find Nix: no program ${quote(name)} on PATH`, {
    hint: 'install Nix (https://nixos.org/download), or open a new shell if it is installed',
  });
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
