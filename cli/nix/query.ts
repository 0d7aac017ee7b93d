import { readFile } from 'node:fs/promises';

import { NicheError, messageOf } from '../../core/errors.ts';
import { parseDerivation } from '../../core/nix/derivation.ts';
import {
  parsePathInfos,
  type LocalPathInfo,
  type PathInfos,
  type UnreadablePath,
} from '../../core/nix/path-info.ts';
import { askText, nixFailed, type AskOptions } from './ask.ts';
import { mapConcurrent } from '../../core/util/concurrency.ts';
import type { DerivationStore, Nix } from './nix.ts';

export interface QueryOptions extends AskOptions {
  /** Whether to query the closures of the paths. @default false */
  readonly recursive?: boolean;
}

/** Characters of arguments in one call: Linux allows 128 KiB to 2 MiB, macOS 1 MiB. */
const maxArgumentCharacters = 96 * 1024;

/** Derivations read at the same time. */
const readsAtOnce = 16;

/** A path may be deleted between two calls, but not at every try. */
const maxTries = 4;

/**
 * Queries the infos of `paths`, each once. Invalid paths are returned as such and are no error.
 * Substituters are not queried.
 *
 * @throws NicheError `nix-failed`, `malformed-path-info`
 */
export async function queryPathInfos(
  nix: Nix,
  paths: Iterable<string>,
  { recursive = false, ...options }: QueryOptions = {},
): Promise<PathInfos> {
  const valid = new Map<string, LocalPathInfo>();
  const unreadable = new Map<string, UnreadablePath>();
  const invalid = new Set<string>();
  for (const { flags, chunk } of queriesOf([...new Set(paths)])) {
    const args = recursive ? ['--recursive', ...flags] : flags;
    const answer = await queryValid(nix, args, chunk, options);
    for (const info of answer.valid) valid.set(info.path, info);
    for (const failed of answer.unreadable) unreadable.set(failed.path, failed);
    for (const path of answer.invalid) invalid.add(path);
  }
  return {
    valid: [...valid.values()],
    invalid: [...invalid],
    unreadable: [...unreadable.values()],
  };
}

/** Before Nix 2.15, a `.drv` means its outputs, unless a flag says otherwise for all arguments. */
function* queriesOf(
  paths: readonly string[],
): Generator<{ readonly flags: readonly string[]; readonly chunk: readonly string[] }> {
  const derivations = paths.filter((path) => path.endsWith('.drv'));
  const others = paths.filter((path) => !path.endsWith('.drv'));
  for (const chunk of chunked(others)) yield { flags: [], chunk };
  for (const chunk of chunked(derivations)) yield { flags: ['--derivation'], chunk };
}

/** Returns the outputs of `drvPath` from its file or, if content-addressed, from the store. */
export async function queryOutputs(
  nix: Nix,
  drvPath: string,
  options?: AskOptions,
): Promise<readonly string[]> {
  const store = nix.evalStore ?? nix;
  const declared = await readOutputs(store, drvPath);
  return declared ?? askLines(store, ['--query', '--outputs', drvPath], options);
}

/** Returns everything that building `drvPaths` needs, with themselves and at least all valid outputs. */
export async function queryGraph(
  nix: Nix,
  drvPaths: readonly string[],
  options?: AskOptions,
): Promise<readonly string[]> {
  const { evalStore } = nix;
  const all = new Set<string>();
  for (const chunk of chunked(drvPaths)) {
    // The store that Nix evaluates in has the derivations; which outputs are valid, it cannot know.
    const flags = evalStore ? [] : ['--include-outputs'];
    const args = ['--query', '--requisites', ...flags, ...chunk];
    for (const path of await askLines(evalStore ?? nix, args, options)) all.add(path);
  }
  if (!evalStore) return [...all];
  const derivations = [...all].filter((path) => path.endsWith('.drv'));
  const outputs = await mapConcurrent(derivations, readsAtOnce, (drvPath) =>
    readOutputs(evalStore, drvPath),
  );
  return [...all, ...outputs.flatMap((paths) => paths ?? [])];
}

/** `nix path-info` can fail for all paths when one is invalid, so it retries without those. */
async function queryValid(
  nix: Nix,
  flags: readonly string[],
  paths: readonly string[],
  options: AskOptions,
): Promise<PathInfos> {
  const invalid = new Set<string>();
  for (let tries = 1; ; tries++) {
    const rest = paths.filter((path) => !invalid.has(path));
    if (rest.length === 0) return { valid: [], invalid: [...invalid], unreadable: [] };
    const answer = await askPathInfos(nix, flags, rest, options);
    if ('valid' in answer) return { ...answer, invalid: [...answer.invalid, ...invalid] };
    const args = ['--check-validity', '--print-invalid', ...rest];
    const newlyInvalid = await askLines(nix, args, options);
    if (newlyInvalid.length === 0 && tries === maxTries) throw answer.failure;
    for (const path of newlyInvalid) invalid.add(path);
  }
}

type Answer = PathInfos | { readonly failure: NicheError };

async function askPathInfos(
  nix: Nix,
  flags: readonly string[],
  paths: readonly string[],
  options: AskOptions,
): Promise<Answer> {
  // Without --offline, Nix would query all substituters for invalid paths.
  const args = ['path-info', '--offline', ...flags, '--json', ...paths];
  let printed = await nix.ask('nix', args, options);
  // Nix 2.34 announces that a later version will require the format.
  if (printed.status !== 0 && printed.stderr.includes("'--json-format")) {
    printed = await nix.ask('nix', [...args, '--json-format', '2'], options);
  }
  if (printed.status !== 0) return { failure: nixFailed('nix', args, printed) };
  return parsePathInfos(parseJson(printed.stdout.toString('utf8')), nix.storeDir);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new NicheError(
      'malformed-path-info',
      `cannot read the output of nix path-info: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/** Returns undefined when the file is gone or on another machine, or an output is content-addressed. */
async function readOutputs(
  store: DerivationStore,
  drvPath: string,
): Promise<readonly string[] | undefined> {
  const file = store.realPath(drvPath);
  if (file === null) return undefined;
  let text: string;
  try {
    text = await readFile(file, 'latin1');
  } catch {
    return undefined;
  }
  const outputs = [...parseDerivation(text, store.storeDir).outputs.values()];
  const paths = outputs.flatMap(({ path }) => path ?? []);
  return paths.length === outputs.length ? paths : undefined;
}

async function askLines(
  store: Pick<Nix, 'ask'>,
  args: readonly string[],
  options?: AskOptions,
): Promise<readonly string[]> {
  const text = await askText(store.ask, 'nix-store', args, options);
  return text === '' ? [] : text.split('\n');
}

/** Divides arguments so that each group fits on one command line. */
export function* chunked(paths: readonly string[]): Generator<readonly string[]> {
  let chunk: string[] = [];
  let characters = 0;
  for (const path of paths) {
    if (chunk.length > 0 && characters + path.length > maxArgumentCharacters) {
      yield chunk;
      chunk = [];
      characters = 0;
    }
    chunk.push(path);
    characters += path.length + 1;
  }
  if (chunk.length > 0) yield chunk;
}
