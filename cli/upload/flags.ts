import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';

import { messageOf } from '../../core/errors.ts';
import { parseCacheAddress, printedCacheOption } from '../cache/address.ts';
import type { CacheAddress } from '../cache/address.ts';
import { nonEmpty } from '../process/environment.ts';
import type { Context } from '../process/context.ts';
import {
  addCacheOption,
  addPublicKeyOption,
  addSecretKeyOption,
  parseDuration,
} from '../ui/options.ts';

/** The flags of every command that uploads, as the parser returns them. */
export interface UploadFlags {
  readonly cacheUrl?: string;
  readonly publicKey?: readonly string[];
  readonly exclude?: RegExp;
  readonly logs: boolean;
  readonly publish: 'local' | false | undefined;
  readonly secretKeyFile?: string;
  readonly wait?: number;
  readonly report?: string;
  readonly strict: boolean;
}

/** What the user wants of an upload. */
export interface UploadRequest {
  readonly cache: CacheAddress;
  /** ` -u URL` for commands that niche prints, see {@link printedCacheOption}. */
  readonly cacheOption: string;
  /** Paths that match are left out, and so are the paths that refer to them. */
  readonly exclude: RegExp | null;
  /** Whether build logs are uploaded too. */
  readonly logs: boolean;
  /** Who publishes: this process, another one, or whichever the cache suggests. */
  readonly publishing: 'here' | 'elsewhere' | 'automatic';
  /** Where the signing key is; undefined for the one that init created. */
  readonly secretKeyFile: string | undefined;
  /** How long no result may come before waiting ends. */
  readonly waitMs: number;
  /** How long lookups wait for an upstream that is down. */
  readonly upstreamWaitMs: number;
  /** Whether the upload succeeds only once everything is published. */
  readonly mustPublish: boolean;
  /** Whether the upload fails when the cache keeps another build of a path. */
  readonly strict: boolean;
  /** The file for the results of the paths. */
  readonly reportFile: string | null;
}

const defaultWaitMs = 120_000;

/** Adds the options of every command that uploads. */
export function addUploadOptions(command: Command): Command {
  command.optionsGroup('Cache:');
  addPublicKeyOption(addCacheOption(command));
  command
    .optionsGroup('Upload:')
    .addOption(
      new Option(
        '--exclude <regex>',
        'skip store paths that match, and paths that refer to them',
      ).argParser(parseRegex),
    )
    .option('--no-logs', 'do not upload build logs')
    .option('--report <file>', 'write per-path results as JSON Lines')
    .option('--strict', 'exit with 76 when the cache has another build of a path', false)
    .optionsGroup('Publish:')
    .addOption(
      new Option(
        '--publish <where>',
        'local: this process publishes (default: for a directory or with a key)',
      ).choices(['local']),
    )
    .option('--no-publish', 'stage only; a worker or cloud function publishes later')
    .addOption(
      new Option(
        '--wait <duration>',
        'longest wait for a result (default: 120s; 0s with --no-publish) or an upstream (120s)',
      ).argParser(parseDuration),
    );
  return addSecretKeyOption(command);
}

/**
 * Turns flags into what the user wants.
 *
 * @throws NicheError `usage` when no cache is given; `invalid-url`; `malformed-key`
 */
export function uploadRequest(flags: UploadFlags, context: Context): UploadRequest {
  return {
    cache: parseCacheAddress(flags.cacheUrl, flags.publicKey ?? [], context),
    cacheOption: printedCacheOption(flags.cacheUrl),
    exclude: flags.exclude ?? null,
    logs: flags.logs,
    publishing: publishingOf(flags, context),
    secretKeyFile: flags.secretKeyFile,
    waitMs: flags.wait ?? (flags.publish === false ? 0 : defaultWaitMs),
    upstreamWaitMs: flags.wait ?? defaultWaitMs,
    mustPublish: flags.publish !== false || flags.wait !== undefined,
    strict: flags.strict,
    reportFile: flags.report ?? null,
  };
}

function publishingOf(
  { publish, secretKeyFile }: UploadFlags,
  { env }: Context,
): UploadRequest['publishing'] {
  if (publish === false) return 'elsewhere';
  const key = secretKeyFile ?? nonEmpty(env['NICHE_SECRET_KEY_FILE']);
  return publish === 'local' || key !== undefined ? 'here' : 'automatic';
}

function parseRegex(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}
