import { existsSync } from 'node:fs';
import path from 'node:path';

import { NicheError, quote } from '../../core/errors.ts';
import { homeOf, nonEmpty, type Environment } from '../process/environment.ts';

export interface StoreLocationInput {
  /** The `store` setting: a store URL, a root folder, or `auto`. */
  readonly storeUrl: string;
  /** The store directory when the URL sets none, mostly `/nix/store`. */
  readonly defaultStoreDir: string;
  readonly env: Environment;
  /** The folder that a relative root folder is relative to. */
  readonly cwd: string;
}

export interface StoreLocation {
  /** The store directory that store paths begin with. */
  readonly logical: string;
  /** Where it is on disk; null for a store on another machine. */
  readonly real: string | null;
}

/** Where a chroot store's paths are below its root. */
const chrootStoreDir = 'nix/store';

/**
 * Returns where a store's paths are. The two folders differ in a chroot store (`--store /mnt`), whose
 * paths are named as inside its root.
 *
 * @throws NicheError `usage` for a store that is neither on this machine nor behind `ssh-ng:`
 */
export function locateStore(input: StoreLocationInput): StoreLocation {
  const { storeUrl, defaultStoreDir, env, cwd } = input;
  const { base, parameters } = splitStoreUrl(storeUrl);
  const logical = nonEmpty(parameters.get('store')) ?? defaultStoreDir;
  const real = nonEmpty(parameters.get('real'));
  if (real !== undefined) return { logical, real };
  const root = rootOf(base, parameters);
  if (root !== undefined) return { logical, real: path.resolve(cwd, root, chrootStoreDir) };
  if (/^(?:auto|daemon|local|(?:local|local-overlay|unix):\/\/.*)?$/u.test(base)) {
    // Without a daemon and without the right to create /nix, `auto` is a chroot store of the user.
    const userStore = path.join(dataHome(env), 'nix', 'root', chrootStoreDir);
    const isUserStore = base !== 'local' && !existsSync(logical) && existsSync(userStore);
    return { logical, real: isUserStore ? userStore : logical };
  }
  if (base.startsWith('ssh-ng://')) return { logical, real: null };
  throw new NicheError(
    'usage',
    `cannot read the Nix store ${quote(storeUrl)}: expected a store on this machine, or ssh-ng://`,
    { hint: 'run niche on the store’s machine, or without the store setting' },
  );
}

function rootOf(base: string, parameters: ReadonlyMap<string, string>): string | undefined {
  if (/^\.{0,2}\//u.test(base)) return base;
  const authority = /^local:\/\/(\/.*)$/u.exec(base)?.[1];
  return authority ?? nonEmpty(parameters.get('root'));
}

function splitStoreUrl(storeUrl: string): {
  readonly base: string;
  readonly parameters: ReadonlyMap<string, string>;
} {
  const at = storeUrl.indexOf('?');
  if (at < 0) return { base: storeUrl, parameters: new Map() };
  const pairs = storeUrl
    .slice(at + 1)
    .split('&')
    .map((pair): [string, string] => {
      const [name = '', ...value] = pair.split('=');
      return [name, decodeURIComponent(value.join('='))];
    });
  return { base: storeUrl.slice(0, at), parameters: new Map(pairs) };
}

function dataHome(env: Environment): string {
  return nonEmpty(env['XDG_DATA_HOME']) ?? path.join(homeOf(env), '.local', 'share');
}
