import type { Verdict } from './accept.ts';
import type { NetrcWritten } from './netrc.ts';
import type { CacheEntry } from './nix-conf.ts';
import { confLines } from './nix-conf.ts';
import type { ReaderNix } from './reader-nix.ts';
import { snippetFor } from './snippets.ts';
import { permitCommands, systemCommands } from './system-conf.ts';
import type { SystemConf } from './system-conf.ts';
import type { Written } from './write.ts';

/**
 * Where to configure the cache: in the user's nix.conf, in the system's, nowhere since Nix uses it
 * already, or unknown without Nix.
 */
export type Placement = 'user' | 'system' | 'in-use' | 'unknown';

export interface Advice {
  readonly entry: CacheEntry;
  readonly placement: Placement;
  readonly nix: ReaderNix | null;
  /** The user's nix.conf; null when the environment disables it. */
  readonly userFile: string | null;
  readonly system: SystemConf;
  /** The result of `--write`. */
  readonly written: Written | null;
  /** The result of `--netrc`. */
  readonly netrc: NetrcWritten | null;
  readonly verdict: Verdict;
}

/** Returns the commands for an administrator; none if users can configure the cache themselves. */
export function commandsOf({ placement, system, entry }: Advice): string[] {
  return placement === 'system' && !system.isManaged ? systemCommands(system, entry) : [];
}

/** Returns the whole advice as text. */
export function describeAdvice(advice: Advice): string {
  const { entry, verdict } = advice;
  const keys = entry.publicKeys.map((key) => `  ${key}`);
  return [
    `${entry.name} at ${entry.substituter}, public keys:`,
    ...keys,
    '',
    ...(advice.netrc ? describeNetrc(advice.netrc) : []),
    ...(advice.written ? describeWritten(advice.written) : describePlacement(advice)),
    '',
    ...describeVerdict(verdict, advice),
    '',
  ].join('\n');
}

function describeNetrc({ file, change }: NetrcWritten): string[] {
  const done = change === 'unchanged' ? 'already has the login' : 'has the login now';
  return [
    `${file} ${done}. If Nix used the cache without it, Nix caches for an hour that paths are missing.`,
    'To avoid that, run Nix once with: --option narinfo-cache-negative-ttl 0',
    '',
  ];
}

function describeWritten({ file, change, before }: Written): string[] {
  switch (change) {
    case 'added':
      return [`added to ${file}; to undo it, run niche use with --remove`];
    case 'updated':
      return [`updated in ${file}${before === null ? '' : ` (was ${before})`}`];
    case 'unchanged':
      return [`${file} already has it`];
    case 'removed':
      return [`removed from ${file}`];
  }
}

function describePlacement(advice: Advice): string[] {
  const { entry, placement, userFile, system } = advice;
  const lines = confLines(entry).map((line) => `  ${line}`);
  switch (placement) {
    case 'in-use':
      return ['Nix already uses it.'];
    case 'unknown':
      return ['Nix is not on the PATH. On a machine with Nix, add this to nix.conf:', ...lines];
    case 'user':
      return [
        `To use it, run niche use again with --write, or add this to ${userFile ?? 'your nix.conf'}:`,
        ...lines,
      ];
    case 'system':
      return system.isManaged
        ? [
            `You are not a trusted user of Nix, and ${system.path} is generated.`,
            'Add this to the configuration of the system:',
            '',
            snippetFor('nixos', entry),
          ]
        : [
            'You are not a trusted user of Nix. To add the cache for all users, an administrator runs:',
            ...shell(systemCommands(system, entry), system),
            'To let each user choose it instead:',
            ...shell(permitCommands(system, entry), system),
            'Then run niche use again with --write.',
          ];
  }
}

function shell(commands: readonly string[], { restart }: SystemConf): string[] {
  const last = restart === null ? ['  (then restart nix-daemon, if it runs)'] : [];
  return [...commands.map((command) => `  ${command}`), ...last];
}

function describeVerdict({ accepted, path, obstacles }: Verdict, { nix }: Advice): string[] {
  if (obstacles.length > 0) {
    const head = nix === null ? 'Nix would not accept the cache:' : 'Nix does not accept it yet:';
    return [head, ...obstacles.map(({ message }) => `  ${message}`)];
  }
  if (path === null) {
    return ['nix-cache-info is valid. No path was checked: pass one of the cache with --path.'];
  }
  if (accepted) return [`Nix accepts the cache: it was checked with ${path}.`];
  return [`The signature of ${path} is valid.`];
}
