import { Option } from 'commander';
import type { Command } from 'commander';

import type { AdoptResult } from '../../core/cache/adopt/context.ts';
import { openReader } from '../../core/cache/open.ts';
import { parseSignerSpec } from '../../core/signing/signer-spec.ts';
import type { SignerSpec } from '../../core/signing/signer-spec.ts';
import { addTrustOptions } from '../adopt/options.ts';
import type { TrustFlags } from '../adopt/options.ts';
import { describeResult, runAdoption } from '../adopt/run.ts';
import { assertNoUrls, normalizeCacheUrl, parseCacheAddress } from '../cache/address.ts';
import { openAsAdministrator, ownAccess } from '../cache/open.ts';
import { parsePathArgument } from '../cache/path-argument.ts';
import type { Context } from '../process/context.ts';
import { findSigners } from '../secrets/signing-keys.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption, addSecretKeyOption } from '../ui/options.ts';

interface RepairFlags extends TrustFlags {
  readonly cacheUrl?: string;
  readonly from?: string;
  readonly dryRun: boolean;
  readonly secretKeyFile?: string;
  readonly signer?: SignerSpec;
  readonly json: boolean;
}

export function addRepair(program: Command, context: Context): void {
  const command = addCacheOption(
    program
      .command('repair')
      .summary('sign narinfos that other programs wrote, and repair damaged NARs')
      .description(
        'Gives the narinfos that lack a valid signature of the cache one, after all checks of a ' +
          'publisher. It signs only content-addressed paths and paths that a trusted key signed. ' +
          'Without arguments it looks at the whole cache. For the given paths it looks at their ' +
          'references too, and at the NARs of signed paths. You can stop it at any time; the next ' +
          'run continues. Requires write access to the public and the private root.',
      )
      .argument('[path...]', 'store paths, links to them, or hashes'),
  ).optionsGroup('Paths to sign:');
  addTrustOptions(command)
    .option('--from <url>', 'cache to take NARs from that are missing or damaged')
    .option('--dry-run', 'check everything and change nothing', false)
    .optionsGroup('Signing key:');
  addSecretKeyOption(command)
    .addOption(
      new Option('--signer <key>', 'sign in the cache’s KMS: aws-kms:… or gcp-kms:…').argParser(
        parseSignerSpec,
      ),
    )
    .optionsGroup('Other:')
    .option('--json', 'print the results as JSON Lines', false)
    .action(async (paths: string[], flags: RepairFlags) => {
      await repair(paths, flags, context);
    });
  addExamples(
    command,
    'niche repair -u s3://acme --trust acme-old-1:… --dry-run',
    'niche repair -u /srv/cache --adopt-unsigned ./result',
    'niche repair -u /srv/cache --from https://cache.example.org /nix/store/…-hello-2.12',
  );
}

async function repair(
  texts: readonly string[],
  flags: RepairFlags,
  context: Context,
): Promise<void> {
  assertNoUrls(texts, 'repair', 'a store path');
  const cache = await openAsAdministrator(parseCacheAddress(flags.cacheUrl, [], context), context);
  const { storeDir } = cache.config;
  const hashes = texts.map((text) => parsePathArgument(text, storeDir, context.cwd).hash);
  const signers = await findSigners(cache, flags.secretKeyFile, context, flags.signer);
  const print = (record: object, line: string | null): void => {
    if (flags.json) context.stdout.write(`${JSON.stringify(record)}\n`);
    else if (line !== null) context.stdout.write(`${line}\n`);
  };
  const adoption = await runAdoption(
    {
      ...cache,
      signers,
      selection: hashes.length > 0 ? hashes : 'all',
      trustedKeys: flags.trust ?? [],
      adoptsUnsigned: flags.adoptUnsigned,
      from: flags.from === undefined ? undefined : openOther(flags.from, context),
      isDryRun: flags.dryRun,
    },
    context,
    (result: AdoptResult) => {
      print(result, describeResult(result));
    },
  );
  print({ kind: 'summary', ...adoption.counts }, adoption.summary);
  context.setExitStatus(adoption.exitStatus);
}

/** Opens a cache of any program: it needs no `niche.json`. */
function openOther(url: string, context: Context): ReturnType<typeof openReader> {
  return openReader(normalizeCacheUrl(url, context.cwd), ownAccess(context));
}
