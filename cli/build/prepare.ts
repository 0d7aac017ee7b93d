import type { OpenCache } from '../../core/cache/open.ts';
import { isNicheError } from '../../core/errors.ts';
import { trustedKeys } from '../cache/address.ts';
import { openCacheAt } from '../cache/open.ts';
import { openNix } from '../nix/nix.ts';
import type { Nix } from '../nix/nix.ts';
import type { OwnCache } from '../nix/own-cache.ts';
import type { Context } from '../process/context.ts';
import type { Progress } from '../ui/progress.ts';
import type { UploadRequest } from '../upload/flags.ts';
import { assertSameStore, openUpload } from '../upload/open.ts';
import type { OpenUpload } from '../upload/open.ts';
import { chosenStore } from '../watch/build-arguments.ts';

/** What happens when nothing can be uploaded: the build stops, or goes on; with `off` nothing is. */
export type BuildPolicy = 'required' | 'try' | 'off';

/** What the user wants of a build. */
export interface BuildRequest {
  readonly command: string;
  readonly args: readonly string[];
  readonly policy: BuildPolicy;
  /** Whether the build may take paths from the cache. */
  readonly substitute: boolean;
  /** Null for a build without a cache. */
  readonly upload: UploadRequest | null;
}

export interface PreparedBuild {
  readonly nix: Nix;
  /** The cache that the build may take paths from. */
  readonly ownCache: OwnCache;
  /** Null when nothing is uploaded. */
  readonly upload: { readonly request: UploadRequest; readonly opened: OpenUpload } | null;
}

/**
 * Opens Nix, the cache and the upload for a build.
 *
 * @returns null when the build runs without the cache
 * @throws NicheError with every failure under the policy `required`
 */
export async function prepareBuild(
  { args, policy, upload: request }: BuildRequest,
  context: Context,
  progress: Progress,
): Promise<PreparedBuild | null> {
  if (request === null) return null;
  const continueWithout =
    (what: string) =>
    (error: unknown): null => {
      if (policy === 'required' || !isNicheError(error)) throw error;
      progress.line(`warning: building without ${what}: ${error.message}`);
      return null;
    };
  const opened = await open(request, args, context).catch(continueWithout('the cache'));
  if (!opened) return null;
  const { cache, nix } = opened;
  const upload =
    policy === 'off'
      ? null
      : await openUpload(cache, request, context).catch(continueWithout('uploading'));
  const { substituter } = cache.config;
  return {
    nix,
    ownCache: { substituter, publicKeys: trustedKeys(request.cache, cache.config) },
    upload: upload && { request, opened: upload },
  };
}

async function open(
  request: UploadRequest,
  args: readonly string[],
  context: Context,
): Promise<{ readonly cache: OpenCache; readonly nix: Nix }> {
  const { env, cwd } = context;
  const storeUrl = chosenStore(args);
  const [cache, nix] = await Promise.all([
    openCacheAt(request.cache, context),
    openNix({ env, cwd, ...(storeUrl === undefined ? {} : { storeUrl }) }),
  ]);
  assertSameStore(cache, nix);
  return { cache, nix };
}
