import { spawnSync } from 'node:child_process';
import type { SpawnSyncReturns } from 'node:child_process';
import { join } from 'node:path';
import { availableNix } from '../support/lab/nix-lab.ts';

/** Runs one of Nix's programs in `folder`, isolated from the user's other files. */
export type Oracle = (
  folder: string,
  tool: string,
  args: readonly string[],
  input?: Uint8Array,
) => SpawnSyncReturns<Buffer>;

/** Returns the newest Nix of the test tools to compare niche with, or null if there is none. */
export function nixOracle(): Oracle | null {
  const newest = availableNix().at(-1);
  if (!newest) return null;
  return (folder, tool, args, input) =>
    spawnSync(join(newest.bin, tool), args, {
      input,
      env: {
        PATH: newest.bin,
        HOME: folder,
        USER: 'fuzz',
        NIX_CONF_DIR: folder,
        NIX_REMOTE: join(folder, 'root'),
        NIX_CONFIG: 'experimental-features = nix-command\nsubstituters =\nbuild-users-group =',
      },
    });
}
