import { isDebugging } from '../context.ts';
import type { Context } from '../context.ts';
import type { Nix } from '../nix/nix.ts';
import { createProgress } from '../ui/progress.ts';
import type { Progress } from '../ui/progress.ts';
import type { UploadOptions } from './session.ts';

/** @param hasTerminal false while nix owns the terminal */
export function startProgress(context: Context, hasTerminal: boolean): Progress {
  return createProgress(context.stderr, { hasTerminal, verbose: isDebugging(context) });
}

/** For whoever looks for a fault: versions, trust and identity. */
export function describeSetup(
  { cache, publisher }: Pick<UploadOptions, 'cache' | 'publisher'>,
  nix: Nix,
  context: Context,
  progress: Progress,
): void {
  const { config } = cache;
  progress.detail(
    `niche ${context.version}, node ${process.version}, ${process.platform} ${process.arch}`,
  );
  progress.detail(
    `${nix.version} in ${nix.programs.nix}, store ${nix.storeDir} at ${nix.realStoreDir}`,
  );
  progress.detail(`nix ${nix.trusted ? 'trusts' : 'does not trust'} this user`);
  progress.detail(`cache ${config.name} at ${cache.public.url}, private root ${cache.private.url}`);
  progress.detail(`public keys ${config.publicKeys.join(' ')}`);
  progress.detail(`upstreams ${config.upstreams.map(({ url }) => url).join(' ') || 'none'}`);
  progress.detail(publisher ? 'publishing in this process' : 'only staging');
}
