import { InvalidArgumentError } from 'commander';
import type { Command } from 'commander';

import { parsePublicKey } from '../../core/nix/keys.ts';

/** Adds `-u` to a command. */
export function addCacheOption(command: Command): Command {
  return command.option(
    '-u, --cache-url <url>',
    'cache URL, optionally with #PUBLIC_KEY (default: $NICHE_CACHE_URL)',
  );
}

/** Adds `--public-key` to a command. */
export function addPublicKeyOption(command: Command): Command {
  return command.option(
    '--public-key <key>',
    'pin the cache’s public key (required over plain HTTP); repeatable',
    addPublicKey,
  );
}

/** Adds `--secret-key-file` to a command. */
export function addSecretKeyOption(command: Command): Command {
  return command.option(
    '--secret-key-file <file>',
    'signing key (default: $NICHE_SECRET_KEY_FILE, else init’s key)',
  );
}

/**
 * Adds one value of `--public-key`.
 *
 * @throws NicheError `malformed-key`. An InvalidArgumentError would print the value, which may be a
 *   secret key by mistake.
 */
export function addPublicKey(text: string, before: readonly string[] = []): readonly string[] {
  parsePublicKey(text);
  return [...before, text];
}

const durationUnits: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Returns the milliseconds of `90`, `90s`, `2m`, `500ms` or `1h`. */
export function parseDuration(text: string): number {
  const [, number, unit = 's'] = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?$/.exec(text) ?? [];
  const factor = durationUnits[unit];
  if (number === undefined || factor === undefined) {
    throw new InvalidArgumentError('expected a duration such as 30s, 5m or 1h');
  }
  return Number(number) * factor;
}

/** Returns the priority of a cache. Nix also reads larger and negative ones, which nobody needs. */
export function parsePriority(text: string): number {
  if (/^[0-9]{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('expected a whole number from 0 to 999999999');
}
