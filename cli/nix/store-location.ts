import { existsSync } from 'node:fs';
import path from 'node:path';

import { NicheError, quote } from '../../core/errors.ts';
import { homeOf, nonEmpty, type Environment } from './environment.ts';

export interface StoreLocationInput {
  /** The `store` setting: a store URL, a root folder, or `auto`. */
  readonly storeUrl: string;
  /** The logical store folder, mostly `/nix/store`. */
  readonly storeDir: string;
  readonly env: Environment;
  /** What a relative root folder is relative to. */
  readonly cwd: string;
}

/** Nix names a chroot store's paths `/nix/store/…` whatever its root. */
const chrootStoreDir = 'nix/store';

/**
 * The folder on this machine that holds the store's paths. It differs from the logical one in a
 * chroot store (`--store /mnt`), whose paths are named as they will be inside the root.
 *
 * @throws NicheError `usage` for a store on another machine
 */
export function locateStore({ storeUrl, storeDir, env, cwd }: StoreLocationInput): string {
  const { base, parameters } = splitStoreUrl(storeUrl);
  const real = parameters.get('real');
  if (real) return real;
  const root = rootOf(base, parameters);
  if (root) return path.resolve(cwd, root, chrootStoreDir);
  if (/^(?:auto|daemon|local|(?:local|local-overlay|unix):\/\/.*)?$/u.test(base)) {
    // Without a daemon and without the right to make /nix, `auto` is a chroot store of the user's.
    const userRoot = path.join(dataHome(env), 'nix', 'root');
    const userStore = path.join(userRoot, chrootStoreDir);
    const isUserStore = base !== 'local' && !existsSync(storeDir) && existsSync(userStore);
    return isUserStore ? userStore : storeDir;
  }
  throw new NicheError(
    'usage',
    `cannot read the paths of the Nix store ${quote(storeUrl)}: expected a store on this machine`,
    { hint: 'run niche where the store is, or without the store setting' },
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
