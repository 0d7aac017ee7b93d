import { isNicheError } from '../../core/errors.ts';
import type { Context } from '../process/context.ts';
import { openNix } from '../nix/nix.ts';

/** What this machine's Nix does for this user, once its daemon has had its say. */
export interface ReaderNix {
  readonly version: string;
  readonly storeDir: string;
  /** Whether Nix honours the user's own nix.conf. */
  readonly trusted: boolean;
  /** Where Nix substitutes from. */
  readonly substituters: readonly string[];
  /** Whose signatures it believes. */
  readonly publicKeys: readonly string[];
  /** Substituters that the user may add even if untrusted. */
  readonly permitted: readonly string[];
}

/**
 * Asks this machine's Nix; null when it has none.
 *
 * @throws NicheError `nix-failed`, and `usage` for a store on another machine
 */
export async function openReaderNix({ env, cwd }: Context): Promise<ReaderNix | null> {
  try {
    const nix = await openNix({ env, cwd });
    const { version, storeDir, trusted, settings } = nix;
    if (trusted) {
      const { substituters, trustedPublicKeys: publicKeys } = settings;
      return { version, storeDir, trusted, substituters, publicKeys, permitted: [] };
    }
    // Of an untrusted user's settings the daemon takes only substituters that it permits.
    const systemEnv = { ...env, NIX_USER_CONF_FILES: '/dev/null', NIX_CONFIG: undefined };
    const system = (await openNix({ env: systemEnv, cwd })).settings;
    const permitted = [...system.trustedSubstituters, ...system.substituters];
    const chosen = settings.substituters.filter((url) => hasUrl(permitted, url));
    return {
      version,
      storeDir,
      trusted,
      substituters: [...system.substituters, ...chosen],
      publicKeys: system.trustedPublicKeys,
      permitted,
    };
  } catch (error) {
    if (isNicheError(error, 'nix-missing')) return null;
    throw error;
  }
}

/** Whether `urls` names the store at `url`, whatever its parameters and slashes at its end. */
export function hasUrl(urls: readonly string[], url: string): boolean {
  return urls.some((other) => withoutParameters(other) === withoutParameters(url));
}

function withoutParameters(url: string): string {
  return url.replace(/\?.*$/, '').replace(/\/+$/, '');
}
