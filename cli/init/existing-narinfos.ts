import { existingNarInfos } from '../../core/cache/init.ts';
import type { AdoptResult } from '../../core/cache/adopt/context.ts';
import type { CacheConfig } from '../../core/cache/config.ts';
import type { CacheBuckets } from '../../core/cache/layout.ts';
import type { Upstreams } from '../../core/cache/upstreams.ts';
import { NicheError } from '../../core/errors.ts';
import type { Signer } from '../../core/signing/signer.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { shellWord } from '../../core/util/shell.ts';
import type { TrustFlags } from '../adopt/options.ts';
import { describeResult, runAdoption } from '../adopt/run.ts';
import type { Context } from '../process/context.ts';
import { count } from '../ui/format.ts';

export interface AdoptFlags extends TrustFlags {
  readonly adopt: boolean;
  readonly json: boolean;
}

/** @throws NicheError `usage` for flags of `--adopt` without it */
export function assertAdoptFlags({ adopt, trust, adoptUnsigned }: AdoptFlags): void {
  if (adopt || (trust === undefined && !adoptUnsigned)) return;
  throw new NicheError(
    'usage',
    `${trust === undefined ? '--adopt-unsigned' : '--trust'} has no effect without --adopt`,
    { hint: 'add --adopt to sign the narinfos that are in the bucket already' },
  );
}

/** Returns the keys whose signatures the new cache keeps; undefined for none. */
export function keptKeys(
  keepSignatures: readonly string[] | undefined,
  { trust = [] }: TrustFlags,
): readonly string[] | undefined {
  const keys = [...new Set([...(keepSignatures ?? []), ...trust])];
  return keys.length > 0 ? keys : undefined;
}

/**
 * Describes the narinfos that are in the bucket of a new cache. No reader accepts them, so they must not
 * go unnoticed.
 *
 * @returns null when there are none, or the user wants them signed
 */
export async function findExisting(
  bucket: Bucket,
  { adopt }: AdoptFlags,
): Promise<{ readonly json: object; readonly text: string } | null> {
  if (adopt) return null;
  const { narInfos, isComplete } = await existingNarInfos(bucket);
  if (narInfos === 0) return null;
  const found = `${isComplete ? '' : 'at least '}${count(narInfos, 'narinfo')}`;
  const text = `warning: found ${found} that this cache has not signed, so readers reject their paths.
To check and sign them, run:
  niche repair -u ${shellWord(bucket.url)} --dry-run`;
  return { json: { unsignedNarInfos: narInfos }, text };
}

/** Signs the narinfos that are in the bucket of a new cache, and sets the exit status. */
export async function adoptExisting(
  cache: CacheBuckets & {
    readonly config: CacheConfig;
    readonly upstreams: Upstreams;
    readonly signers: readonly Signer[];
  },
  flags: AdoptFlags,
  context: Context,
): Promise<void> {
  const print = (record: object, line: string | null): void => {
    if (flags.json) context.stdout.write(`${JSON.stringify(record)}\n`);
    else if (line !== null) context.stdout.write(`${line}\n`);
  };
  const request = {
    ...cache,
    selection: 'all',
    trustedKeys: flags.trust ?? [],
    adoptsUnsigned: flags.adoptUnsigned,
    isDryRun: false,
  } as const;
  const { counts, summary, exitStatus } = await runAdoption(
    request,
    context,
    (result: AdoptResult) => {
      print(result, describeResult(result));
    },
  );
  print({ kind: 'summary', ...counts }, summary);
  context.setExitStatus(exitStatus);
}
