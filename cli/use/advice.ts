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
 * Where the cache has to be written down: in the user's own nix.conf, in the system's, nowhere as it
 * is in use already, or nobody knows, as there is no Nix.
 */
export type Placement = 'user' | 'system' | 'in-use' | 'unknown';

export interface Advice {
  readonly entry: CacheEntry;
  readonly placement: Placement;
  readonly nix: ReaderNix | null;
  /** The user's nix.conf; null when Nix is told to read none. */
  readonly userFile: string | null;
  readonly system: SystemConf;
  /** What `--write` did. */
  readonly written: Written | null;
  /** What `--netrc` did. */
  readonly netrc: NetrcWritten | null;
  readonly verdict: Verdict;
}

/** The commands that an administrator runs; none where users may do it themselves. */
export function commandsOf({ placement, system, entry }: Advice): string[] {
  return placement === 'system' && !system.isManaged ? systemCommands(system, entry) : [];
}

/** All of it, for people. */
export function describeAdvice(advice: Advice): string {
  const { entry, verdict } = advice;
  const keys = entry.publicKeys.map((key) => `  ${key}`);
  return [
    `${entry.name} at ${entry.substituter}, signed by`,
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
  const done = change === 'unchanged' ? 'has the login already' : 'has the login now';
  return [
    `${file} ${done}. If Nix has asked the cache without it, it believes for an hour that paths are missing;`,
    'once, run what you need with: --option narinfo-cache-negative-ttl 0',
    '',
  ];
}

function describeWritten({ file, change, before }: Written): string[] {
  switch (change) {
    case 'added':
      return [`added to ${file}; \`niche use … --remove\` undoes it`];
    case 'updated':
      return [`updated in ${file}${before === null ? '' : ` (it was ${before})`}`];
    case 'unchanged':
      return [`${file} has it already`];
    case 'removed':
      return [`removed from ${file}, which is as it was before`];
  }
}

function describePlacement(advice: Advice): string[] {
  const { entry, placement, userFile, system } = advice;
  const lines = confLines(entry).map((line) => `  ${line}`);
  switch (placement) {
    case 'in-use':
      return ['Nix uses it already: there is nothing to do.'];
    case 'unknown':
      return [
        'There is no Nix on this machine’s PATH. Where there is one, nix.conf takes:',
        ...lines,
      ];
    case 'user':
      return [
        `To use it, run this again with --write, or put this into ${userFile ?? 'your nix.conf'}:`,
        ...lines,
      ];
    case 'system':
      return system.isManaged
        ? [
            `Nix does not take new caches from you, and ${system.path} is generated. Your system’s configuration takes:`,
            '',
            snippetFor('nixos', entry),
          ]
        : [
            'Nix does not take new caches from you: you are not among its trusted-users. For every user, an administrator runs:',
            ...shell(systemCommands(system, entry), system),
            'Or, so that each user may choose it:',
            ...shell(permitCommands(system, entry), system),
            'after which you run this with --write.',
          ];
  }
}

function shell(commands: readonly string[], { restart }: SystemConf): string[] {
  const last = restart === null ? ['  (and restart nix-daemon, where there is one)'] : [];
  return [...commands.map((command) => `  ${command}`), ...last];
}

function describeVerdict({ accepted, path, obstacles }: Verdict, { nix }: Advice): string[] {
  if (obstacles.length > 0) {
    const head = nix === null ? 'Nix would not accept it:' : 'Nix does not accept it now:';
    return [head, ...obstacles.map(({ message }) => `  ${message}`)];
  }
  if (path === null) {
    return [
      'nix-cache-info is as Nix expects it. No path was looked at: name one that the cache has with --path.',
    ];
  }
  if (accepted) return [`Nix accepts it: it was asked about ${path}.`];
  return [`The signature of ${path} is valid.`];
}
