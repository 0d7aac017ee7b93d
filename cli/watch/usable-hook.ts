import { isNicheError } from '../../core/errors.ts';
import type { Nix } from '../nix/nix.ts';
import type { Environment } from '../process/environment.ts';
import { installHook, type Hook } from './hook.ts';
import { probeFailure, probeHook } from './hook-probe.ts';
import { makeSessionFolder, sessionBases, type SessionFolder } from './session-folder.ts';

/** A post-build hook that Nix can run, and its folder. */
export interface UsableHook extends Hook {
  readonly session: SessionFolder;
}

/**
 * Installs a post-build hook in the first session folder where Nix can run it.
 *
 * @returns why there is none, when Nix can run it in no folder
 */
export async function installUsableHook(nix: Nix, env: Environment): Promise<UsableHook | string> {
  let failure = '';
  for (const base of sessionBases(env, nix.cwd)) {
    const installed = await tryInstall(nix, base);
    if (typeof installed !== 'string') return installed;
    failure ||= installed;
  }
  return `nix cannot run a post-build hook: ${failure}`;
}

async function tryInstall(nix: Nix, base: string): Promise<UsableHook | string> {
  let session: SessionFolder;
  try {
    session = makeSessionFolder(base);
  } catch (error) {
    if (isNicheError(error, 'usage')) return error.message;
    throw error;
  }
  const { folder, remove } = session;
  try {
    await probeHook(nix, folder);
    return { ...installHook({ folder, previousHook: nix.settings.postBuildHook }), session };
  } catch (error) {
    remove();
    return probeFailure(error);
  }
}
