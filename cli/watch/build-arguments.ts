import path from 'node:path';

/** How to list the derivations that a command is about to build. */
export interface GraphQuery {
  /** Derivations among the command's arguments. */
  readonly drvPaths: readonly string[];
  /** The program that prints the others, one a line; null when there are none. */
  readonly evaluation: {
    readonly tool: 'nix' | 'nix-instantiate';
    /** Arguments before and after the flags that the caller adds. */
    readonly before: readonly string[];
    readonly after: readonly string[];
  } | null;
}

/** Flags of a build command, and how many values each takes. */
type Flags = ReadonlyMap<string, number>;

/** Flags of `nix` before its subcommand; they stay there. */
const nixGlobalFlags: Flags = new Map([
  ['--experimental-features', 1],
  ['--extra-experimental-features', 1],
  ['--option', 2],
  ['--store', 1],
  ['--eval-store', 1],
  ['--log-format', 1],
  ['--accept-flake-config', 0],
  ['--offline', 0],
  ['--quiet', 0],
  ['--print-build-logs', 0],
  ['-L', 0],
  ['--verbose', 0],
  ['-v', 0],
]);

/** Flags that niche passes on in its own queries, as Nix configuration. */
const storeFlags: Flags = new Map([
  ['--store', 1],
  ['--eval-store', 1],
]);

/** Flags of `nix build` that `nix path-info` lacks, or that must not be passed to it. */
const nixBuildOnly: Flags = new Map([
  ...storeFlags,
  ['--no-link', 0],
  ['--out-link', 1],
  ['-o', 1],
  ['--print-out-paths', 0],
  ['--profile', 1],
  ['--rebuild', 0],
  ['--repair', 0],
  ['--json', 0],
  ['--pretty', 0],
  ['--no-pretty', 0],
  ['--debugger', 0],
  ['--commit-lock-file', 0],
  ['--output-lock-file', 1],
]);

/** Flags of `nix-build` that `nix-instantiate` lacks, or that must not be passed to it. */
const nixBuildClassicOnly: Flags = new Map([
  ...storeFlags,
  ['--no-out-link', 0],
  ['--no-link', 0],
  ['--out-link', 1],
  ['-o', 1],
  ['--add-drv-link', 0],
  ['--drv-link', 1],
  ['--check', 0],
  ['--repair', 0],
  ['--print-build-logs', 0],
  ['-L', 0],
]);

/** With these nothing is built. */
const buildsNothing = new Set(['--dry-run', '--run-env', '--help', '--version']);

/** With these the expression can be read only once, from standard input. */
const readsInput = new Set(['-', '--stdin', '--arg-from-stdin']);

/**
 * Returns how to list the derivations of `command`: its arguments without those that only concern
 * building. Null for a command that niche does not know.
 */
export function graphQueryOf(
  command: string,
  args: readonly string[],
  storeDir: string,
): GraphQuery | null {
  if (args.some((arg) => buildsNothing.has(arg) || readsInput.has(arg))) return null;
  const program = path.basename(command);
  if (program === 'nix') return nixQuery(args);
  if (program === 'nix-build') return nixBuildQuery(args, storeDir);
  return null;
}

/** Returns whether `args` set a post-build hook, which overrides one in the environment. */
export function hasOwnHook(args: readonly string[]): boolean {
  return args.some(
    (arg, at) =>
      arg === '--post-build-hook' || (arg === '--option' && args[at + 1] === 'post-build-hook'),
  );
}

/**
 * Returns the name of the links that a build command makes, or `none` if its arguments forbid them. Null
 * for a command that niche does not know.
 */
export function outLinkOf(
  command: string,
  args: readonly string[],
): { readonly path: string } | 'none' | null {
  const isKnown = isNixBuild(command, args) || path.basename(command) === 'nix-build';
  if (!isKnown || args.some((arg) => buildsNothing.has(arg))) return null;
  let outLink: { readonly path: string } | 'none' = { path: 'result' };
  for (const [at, arg] of beforeDashes(args).entries()) {
    if (arg === '--no-link' || arg === '--no-out-link') outLink = 'none';
    if (arg === '--out-link' || /^-[A-Za-z]*o$/u.test(arg)) outLink = { path: args[at + 1] ?? '' };
  }
  return outLink;
}

/** Returns `args` with `--out-link`. The last such flag counts. */
export function withOutLink(args: readonly string[], link: string): readonly string[] {
  const flags = beforeDashes(args);
  return [...flags, '--out-link', link, ...args.slice(flags.length)];
}

/** Returns the store that `args` select to build in, or to evaluate in, if any. */
export function chosenStore(
  args: readonly string[],
  setting: 'store' | 'eval-store',
): string | undefined {
  const at = args.findLastIndex(
    (arg, index) => arg === `--${setting}` || (arg === setting && args[index - 1] === '--option'),
  );
  return at < 0 ? undefined : args[at + 1];
}

/** Returns whether `command` is `nix build`. */
export function isNixBuild(command: string, args: readonly string[]): boolean {
  return path.basename(command) === 'nix' && buildAt(args) !== null;
}

/** Returns where `build` is in the arguments of `nix`; null for any other subcommand. */
function buildAt(args: readonly string[]): number | null {
  let at = 0;
  while (args[at] !== 'build') {
    const values = nixGlobalFlags.get(args[at] ?? '');
    if (values === undefined) return null;
    at += 1 + values;
  }
  return at;
}

function nixQuery(args: readonly string[]): GraphQuery | null {
  const at = buildAt(args);
  if (at === null) return null;
  const before = without(args.slice(0, at), storeFlags);
  const [flags, afterDashes] = splitAtDashes(without(args.slice(at + 1), nixBuildOnly));
  // The build itself may write the lock file; a second writer would race with it.
  const own = ['path-info', '--derivation', '--no-write-lock-file'];
  return {
    drvPaths: [],
    evaluation: { tool: 'nix', before: [...before, ...own, ...flags], after: afterDashes },
  };
}

function nixBuildQuery(args: readonly string[], storeDir: string): GraphQuery {
  const kept = without(args, nixBuildClassicOnly);
  const isDrv = (arg: string): boolean =>
    arg.startsWith(`${storeDir}/`) && /\.drv(?:!.*)?$/u.test(arg);
  const drvPaths = kept.filter(isDrv).map(withoutOutputs);
  const [flags, afterDashes] = splitAtDashes(kept);
  return {
    drvPaths,
    evaluation:
      drvPaths.length > 0 ? null : { tool: 'nix-instantiate', before: flags, after: afterDashes },
  };
}

/** Returns the derivation of a line such as `/nix/store/…-x.drv!dev` or `/nix/store/…-x.drv^dev`. */
export function withoutOutputs(line: string): string {
  return line.replace(/[!^].*$/u, '');
}

/** Returns `args` without `dropped` and their values. Like Nix, it reads `-Lo x` as `-L -o x`. */
function without(args: readonly string[], dropped: Flags): readonly string[] {
  const kept: string[] = [];
  for (let at = 0; at < args.length; at++) {
    const arg = args[at] ?? '';
    if (arg === '--') return [...kept, ...args.slice(at)];
    const clustered = /^(-[A-Za-z]+)o$/u.exec(arg)?.[1];
    if (clustered !== undefined) kept.push(clustered);
    const values = clustered === undefined ? dropped.get(arg) : 1;
    if (values === undefined) kept.push(arg);
    else at += values;
  }
  return kept;
}

function splitAtDashes(args: readonly string[]): [readonly string[], readonly string[]] {
  const flags = beforeDashes(args);
  return [flags, args.slice(flags.length)];
}

function beforeDashes(args: readonly string[]): readonly string[] {
  const at = args.indexOf('--');
  return at < 0 ? args : args.slice(0, at);
}
