import { readFile } from 'node:fs/promises';

import { NicheError, messageOf } from '../../core/errors.ts';
import { parseDerivation } from '../../core/nix/derivation.ts';
import { parsePathInfos, type LocalPathInfo, type PathInfos } from '../../core/nix/path-info.ts';
import { askText, nixFailed, type AskOptions } from './ask.ts';
import type { Nix } from './nix.ts';

export interface QueryOptions extends AskOptions {
  /** Ask for the closures of the paths. @default false */
  readonly recursive?: boolean;
}

/** Characters of arguments in one question: well under Linux's 128 KiB to 2 MiB, or macOS's 1 MiB. */
const maxArgumentCharacters = 96 * 1024;

/** Paths may be collected between two questions, but not for ever. */
const maxTries = 4;

/**
 * What the store knows of `paths`, each once. Paths that are not valid (any more) are said so,
 * never an error. Nothing is asked of substituters.
 *
 * @throws NicheError `nix-failed`, `malformed-path-info`
 */
export async function queryPathInfos(
  nix: Nix,
  paths: Iterable<string>,
  { recursive = false, ...options }: QueryOptions = {},
): Promise<PathInfos> {
  const valid = new Map<string, LocalPathInfo>();
  const invalid = new Set<string>();
  for (const chunk of chunked([...new Set(paths)])) {
    const answer = recursive
      ? await queryClosure(nix, chunk, options)
      : await askPathInfos(nix, [], chunk, options);
    if (!('valid' in answer)) throw answer.failure;
    for (const info of answer.valid) valid.set(info.path, info);
    for (const path of answer.invalid) invalid.add(path);
  }
  return { valid: [...valid.values()], invalid: [...invalid] };
}

/** The outputs of `drvPath`, as its file says or, where it cannot (content-addressed), the store. */
export async function queryOutputs(
  nix: Nix,
  drvPath: string,
  options?: AskOptions,
): Promise<readonly string[]> {
  const declared = await readOutputs(nix, drvPath);
  return declared ?? askLines(nix, ['--query', '--outputs', drvPath], options);
}

/** Everything that building `drvPaths` needs, themselves and the valid outputs included. */
export async function queryGraph(
  nix: Nix,
  drvPaths: readonly string[],
  options?: AskOptions,
): Promise<readonly string[]> {
  const all = new Set<string>();
  for (const chunk of chunked(drvPaths)) {
    const args = ['--query', '--requisites', '--include-outputs', ...chunk];
    for (const path of await askLines(nix, args, options)) all.add(path);
  }
  return [...all];
}

type Answer = PathInfos | { readonly failure: NicheError };

/** `nix path-info -r` fails as a whole when one path is not valid: those are left out. */
async function queryClosure(
  nix: Nix,
  paths: readonly string[],
  options: AskOptions,
): Promise<Answer> {
  const invalid = new Set<string>();
  for (let tries = 1; ; tries++) {
    const rest = paths.filter((path) => !invalid.has(path));
    if (rest.length === 0) return { valid: [], invalid: [...invalid] };
    const answer = await askPathInfos(nix, ['--recursive'], rest, options);
    if ('valid' in answer) return { ...answer, invalid: [...answer.invalid, ...invalid] };
    const args = ['--check-validity', '--print-invalid', ...rest];
    const gone = await askLines(nix, args, options);
    if (gone.length === 0 && tries === maxTries) return answer;
    for (const path of gone) invalid.add(path);
  }
}

async function askPathInfos(
  nix: Nix,
  flags: readonly string[],
  paths: readonly string[],
  options: AskOptions,
): Promise<Answer> {
  // Without --offline nix would ask every substituter for paths that are not valid.
  const args = ['path-info', '--offline', ...flags, '--json', ...paths];
  let asked = await nix.ask('nix', args, options);
  // Nix 2.34 warns that a later one will want to be told the format.
  if (asked.status !== 0 && asked.stderr.includes("'--json-format")) {
    asked = await nix.ask('nix', [...args, '--json-format', '2'], options);
  }
  if (asked.status !== 0) return { failure: nixFailed('nix', args, asked) };
  return parsePathInfos(parseJson(asked.stdout.toString('utf8')), nix.storeDir);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new NicheError(
      'malformed-path-info',
      `cannot read what nix path-info printed: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/** Undefined where the file cannot say: it is gone, or an output is content-addressed. */
async function readOutputs(nix: Nix, drvPath: string): Promise<readonly string[] | undefined> {
  let text: string;
  try {
    text = await readFile(nix.realPath(drvPath), 'latin1');
  } catch {
    return undefined;
  }
  const outputs = [...parseDerivation(text, nix.storeDir).outputs.values()];
  const paths = outputs.flatMap(({ path }) => path ?? []);
  return paths.length === outputs.length ? paths : undefined;
}

async function askLines(
  nix: Nix,
  args: readonly string[],
  options?: AskOptions,
): Promise<readonly string[]> {
  const text = await askText(nix.ask, 'nix-store', args, options);
  return text === '' ? [] : text.split('\n');
}

function* chunked(paths: readonly string[]): Generator<readonly string[]> {
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
