import type { ReadableCache } from '../../core/cache/open.ts';
import { isNicheError } from '../../core/errors.ts';
import { formatStoreUrl } from '../../core/nix/store-url.ts';
import { trustedKeys } from '../cache/address.ts';
import type { CacheAddress } from '../cache/address.ts';
import { openCacheAt, openReaderAt } from '../cache/open.ts';
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
  if (policy === 'off') {
    const opened = await open(openReaderAt, request, args, context).catch(
      continueWithout('the cache'),
    );
    return opened && { ...opened, upload: null };
  }
  const opened = await open(openCacheAt, request, args, context).catch(
    continueWithout('the cache'),
  );
  if (!opened) return null;
  const { cache, nix, ownCache } = opened;
  const upload = await openUpload(cache, request, context, progress).catch(
    continueWithout('uploading'),
  );
  return { nix, ownCache, upload: upload && { request, opened: upload } };
}

interface OpenedBuild<Cache> extends Pick<PreparedBuild, 'nix' | 'ownCache'> {
  readonly cache: Cache;
}

async function open<Cache extends ReadableCache>(
  openAt: (address: CacheAddress, context: Context) => Promise<Cache>,
  request: UploadRequest,
  args: readonly string[],
  context: Context,
): Promise<OpenedBuild<Cache>> {
  const { env, cwd } = context;
  const storeUrl = chosenStore(args, 'store');
  const evalStoreUrl = chosenStore(args, 'eval-store');
  const [cache, nix] = await Promise.all([
    openAt(request.cache, context),
    openNix({ env, cwd, storeUrl, evalStoreUrl }),
  ]);
  assertSameStore(cache, nix);
  const { substituter: url } = cache.config;
  const substituter = formatStoreUrl({ url, parameters: request.cache.storeParameters ?? '' });
  const publicKeys = trustedKeys(request.cache, cache.config);
  return { cache, nix, ownCache: { substituter, publicKeys } };
}
