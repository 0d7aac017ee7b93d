import { writeCacheInfo } from '../../core/cache/cache-info.ts';
import { cacheInfoKey } from '../../core/cache/layout.ts';
import { parseCacheAddress } from '../cache/address.ts';
import { openAsAdministrator } from '../cache/open.ts';
import type { Context } from '../process/context.ts';

export interface SetFlags {
  readonly cacheUrl?: string;
  readonly json: boolean;
}

/** Runs `niche config set priority`. */
export async function setPriority(
  priority: number,
  flags: SetFlags,
  context: Context,
): Promise<void> {
  const cache = await openAsAdministrator(parseCacheAddress(flags.cacheUrl, [], context), context);
  const { change, before } = await writeCacheInfo(cache.public, cache.config, priority);
  if (flags.json) {
    context.stdout.write(
      `${JSON.stringify({ document: cacheInfoKey, priority, before, change })}\n`,
    );
    return;
  }
  const was = before === null ? '' : ` (was ${before})`;
  context.stdout.write(
    change === 'unchanged'
      ? `the priority is ${priority} already\n`
      : `the priority is ${priority} now${was}; Nix caches the old one for up to 7 days\n`,
  );
}
