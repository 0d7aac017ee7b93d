import path from 'node:path';

import { isNicheError } from '../../core/errors.ts';
import { nonEmpty } from '../process/environment.ts';
import type { Context } from '../process/context.ts';
import { readNixSettings } from './nix.ts';

/** The netrc file that Nix reads by default. */
export const defaultNetrcFile = '/etc/nix/netrc';

/**
 * Returns the netrc file with the logins for private caches: that of `NICHE_NETRC`, else that of Nix's
 * settings, else Nix's default. It may not exist.
 */
export async function findNetrcFile({ env, cwd }: Pick<Context, 'env' | 'cwd'>): Promise<string> {
  const own = nonEmpty(env['NICHE_NETRC']);
  if (own !== undefined) return path.resolve(cwd, own);
  try {
    const { netrcFile } = await readNixSettings({ env, cwd });
    return netrcFile ?? defaultNetrcFile;
  } catch (error) {
    // A machine that only publishes may have no Nix.
    if (isNicheError(error, 'nix-missing', 'nix-failed')) return defaultNetrcFile;
    throw error;
  }
}
