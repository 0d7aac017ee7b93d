import { accessSync, constants, statSync } from 'node:fs';
import path from 'node:path';

import { NicheError, quote } from '../../core/errors.ts';
import { askText, type Ask, type NixTool } from './ask.ts';
import { capture } from './capture.ts';
import type { Environment } from '../environment.ts';
import { appendNixConfig, type NixConfigEntry } from './nix-config.ts';
import { parseSettings, type NixSettings } from './settings.ts';
import { locateStore } from './store-location.ts';
import { askTrust } from './trust.ts';

/** The nix of this machine, and what niche needs to know of it. */
export interface Nix {
  /** The full path of each program. */
  readonly programs: Readonly<Record<NixTool, string>>;
  /** As `nix --version` prints it, such as `nix (Nix) 2.34.8`. */
  readonly version: string;
  /** The folder that store paths are named under. */
  readonly storeDir: string;
  /** The folder that they lie in; differs from `storeDir` in a chroot store. */
  readonly realStoreDir: string;
  /** Whether nix takes restricted settings, such as a post-build hook, from this user. */
  readonly trusted: boolean;
  readonly settings: NixSettings;
  /** The folder that `ask` works in. */
  readonly cwd: string;
  /** Where on disk `storePath` lies. */
  readonly realPath: (storePath: string) => string;
  readonly ask: Ask;
}

export interface OpenNixOptions {
  readonly env: Environment;
  readonly cwd: string;
  /** The store to use instead of the configured one, as in nix's `--store`. */
  readonly storeUrl?: string;
}

/** What `nix build` and niche's own questions need on top of the user's configuration. */
export const nixCommandFeature: NixConfigEntry = ['extra-experimental-features', 'nix-command'];

/** Asked of the dummy store, since opening the real one twice at once can take Nix 2.8 seconds. */
const storeDirQuestion = ['--eval', '--json', '--store', 'dummy://', '--expr', 'builtins.storeDir'];

/**
 * Finds nix and asks for its version, store, settings and trust. The questions are asked at once:
 * each costs 20 to 60 ms, and they stand before every build.
 *
 * @throws NicheError `nix-missing` without nix on `PATH`, `nix-failed` where nix cannot answer,
 *   `usage` for a store on another machine
 */
export async function openNix({ env, cwd, storeUrl }: OpenNixOptions): Promise<Nix> {
  const programs = {
    nix: findProgram('nix', env),
    'nix-store': findProgram('nix-store', env),
    'nix-instantiate': findProgram('nix-instantiate', env),
  };
  const store: NixConfigEntry[] = storeUrl === undefined ? [] : [['store', storeUrl]];
  const ask: Ask = (tool, args, { config = [], ...options } = {}) => {
    const entries = [nixCommandFeature, ...store, ...config];
    const askEnv = { ...env, NIX_CONFIG: appendNixConfig(env['NIX_CONFIG'], entries) };
    return capture(programs[tool], args, { env: askEnv, cwd, ...options });
  };
  const [version, storeDir, settings, trusted] = await Promise.all([
    askText(ask, 'nix', ['--version']),
    askText(ask, 'nix-instantiate', storeDirQuestion),
    askSettings(ask),
    askTrust(ask),
  ]);
  const { logical, real } = locateStore({
    storeUrl: settings.store,
    defaultStoreDir: parseStoreDir(storeDir),
    env,
    cwd,
  });
  return {
    programs,
    version,
    storeDir: logical,
    realStoreDir: real,
    trusted,
    settings,
    cwd,
    realPath: (storePath) => path.join(real, path.relative(logical, storePath)),
    ask,
  };
}

async function askSettings(ask: Ask): Promise<NixSettings> {
  const asked = await ask('nix', ['config', 'show', '--json']);
  if (asked.status === 0) return parseSettings(asked.stdout.toString('utf8'));
  // Its name before Nix 2.20.
  return parseSettings(await askText(ask, 'nix', ['show-config', '--json']));
}

function parseStoreDir(json: string): string {
  const storeDir: unknown = JSON.parse(json);
  if (typeof storeDir === 'string' && storeDir.startsWith('/')) return storeDir;
  throw new NicheError(
    'nix-failed',
    `cannot learn nix's store folder: expected an absolute path, got ${quote(json)}`,
  );
}

function findProgram(name: NixTool, env: Environment): string {
  const folders = (env['PATH'] ?? '').split(path.delimiter).filter((folder) => folder !== '');
  for (const folder of folders) {
    const candidate = path.resolve(folder, name);
    if (isProgram(candidate)) return candidate;
  }
  throw new NicheError('nix-missing', `cannot find ${quote(name)} on PATH`, {
    hint: 'install Nix (https://nixos.org/download), or open a shell in which it is set up',
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
