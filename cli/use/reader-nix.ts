import { isNicheError } from '../../core/errors.ts';
import { hasStore } from '../../core/nix/store-url.ts';
import type { Context } from '../process/context.ts';
import { openNix } from '../nix/nix.ts';

/** How this machine's Nix works for this user, with the restrictions of its daemon. */
export interface ReaderNix {
  readonly version: string;
  readonly storeDir: string;
  /** Whether Nix honours the user's own nix.conf. */
  readonly trusted: boolean;
  /** The substituters that Nix uses. */
  readonly substituters: readonly string[];
  /** The public keys that Nix trusts. */
  readonly publicKeys: readonly string[];
  /** Substituters that an untrusted user may add. */
  readonly permitted: readonly string[];
}

/**
 * Reads the settings of this machine's Nix; null if there is no Nix.
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
    // From the settings of an untrusted user, the daemon takes only permitted substituters.
    const systemEnv = { ...env, NIX_USER_CONF_FILES: '/dev/null', NIX_CONFIG: undefined };
    const system = (await openNix({ env: systemEnv, cwd })).settings;
    const permitted = [...system.trustedSubstituters, ...system.substituters];
    const chosen = settings.substituters.filter((url) => hasStore(permitted, url));
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
