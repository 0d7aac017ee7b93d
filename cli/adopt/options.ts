import type { Command } from 'commander';

import { addPublicKey } from '../ui/options.ts';

/** The flags that say which existing narinfos to sign. */
export interface TrustFlags {
  readonly trust?: readonly string[];
  readonly adoptUnsigned: boolean;
}

/** Adds `--trust` and `--adopt-unsigned` to a command. */
export function addTrustOptions(command: Command): Command {
  return command
    .option(
      '--trust <key>',
      'sign paths with a valid signature of this public key; repeatable',
      addPublicKey,
    )
    .option('--adopt-unsigned', 'sign paths whose origin nothing shows, too', false);
}
