import type { Command } from 'commander';

import { resignNarInfos } from '../../core/cache/keys/resign.ts';
import type { ResignCounts } from '../../core/cache/keys/resign.ts';
import { parseCacheAddress } from '../cache/address.ts';
import { statusNotPublished, statusRejected } from '../process/context.ts';
import type { Context } from '../process/context.ts';
import { listenForInterrupt } from '../process/interrupt.ts';
import { openAsAdministrator } from '../cache/open.ts';
import { findSigners } from '../secrets/signing-keys.ts';
import { count } from '../ui/format.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption, addSecretKeyOption } from '../ui/options.ts';
import { startProgress } from '../ui/progress.ts';

interface ResignFlags {
  readonly cacheUrl?: string;
  readonly secretKeyFile?: string;
  readonly json: boolean;
}

export function addResign(program: Command, context: Context): void {
  const command = addSecretKeyOption(
    addCacheOption(
      program
        .command('resign')
        .summary('add signatures of the current keys to published paths')
        .description(
          'Adds the signatures that published narinfos lack, and changes nothing else in them. It signs ' +
            'only narinfos that already verify with a key of the cache. You can stop it at any time; ' +
            'the next run continues.',
        ),
    ),
  )
    .option('--json', 'print the result as JSON', false)
    .action(async (flags: ResignFlags) => run(flags, context));
  addExamples(command, 'niche key rotate -u s3://acme', 'niche resign -u s3://acme');
}

async function run(flags: ResignFlags, context: Context): Promise<void> {
  const cache = await openAsAdministrator(parseCacheAddress(flags.cacheUrl, [], context), context);
  const signers = await findSigners(cache, flags.secretKeyFile, context);
  const progress = startProgress(context, true);
  const interrupt = listenForInterrupt(true);
  try {
    const tally = await resignNarInfos({
      ...cache,
      signers,
      version: `niche ${context.version}`,
      signal: interrupt.signal,
      onProgress(now) {
        progress.state(() => describe(now));
      },
    });
    progress.end();
    for (const key of tally.unverified.slice(0, maxShown)) {
      progress.line(`${key} has no valid signature by a key of the cache: not changed`);
    }
    if (flags.json) context.stdout.write(`${JSON.stringify(tally)}\n`);
    else context.stdout.write(`${describe(tally)}\n`);
    const isWhole = tally.changed === 0 && tally.unsignable === 0;
    context.setExitStatus(
      tally.unverified.length > 0 ? statusRejected : isWhole ? 0 : statusNotPublished,
    );
  } finally {
    progress.end();
    const status = interrupt.status();
    if (status !== null) context.setExitStatus(status);
    interrupt.close();
  }
}

/** Prints at most this many unverified narinfos. */
const maxShown = 20;

function describe(counts: ResignCounts): string {
  const { signed, complete, unsignable, changed, blocked, unverified } = counts;
  const rest = [
    unsignable > 0 ? `${unsignable} too long for the signer` : '',
    changed > 0 ? `${changed} changed meanwhile (run niche resign again)` : '',
    blocked > 0 ? `${count(blocked, 'blocked path')} withdrawn` : '',
    unverified.length > 0 ? `${unverified.length} not verified` : '',
  ].filter((part) => part !== '');
  return [`signed ${count(signed, 'narinfo')}`, `${complete} already complete`, ...rest].join(', ');
}
