import type { Nix } from '../nix/nix.ts';
import type { Context } from '../process/context.ts';
import type { Progress } from '../ui/progress.ts';
import type { UploadOptions } from './session.ts';

/** Writes versions, trust, places and keys to the debug log. */
export function describeSetup(
  { cache, publisher }: Pick<UploadOptions, 'cache' | 'publisher'>,
  nix: Nix,
  context: Context,
  progress: Progress,
): void {
  const { config } = cache;
  const { version, platform, arch } = process;
  progress.detail(`niche ${context.version}, node ${version}, ${platform} ${arch}`);
  progress.detail(
    `${nix.version} in ${nix.programs.nix}, store ${nix.storeDir} at ${nix.realStoreDir ?? nix.settings.store}`,
  );
  progress.detail(`nix ${nix.trusted ? 'trusts' : 'does not trust'} this user`);
  progress.detail(`cache ${config.name} at ${cache.public.url}, staging root ${cache.staging.url}`);
  progress.detail(`public keys ${config.publicKeys.join(' ')}`);
  progress.detail(`upstreams ${config.upstreams.map(({ url }) => url).join(' ') || 'none'}`);
  progress.detail(publisher ? 'publishing in this process' : 'staging only');
}
