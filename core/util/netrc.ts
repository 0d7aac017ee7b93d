import { readFile } from 'node:fs/promises';

/** A user and a password for the server of a private cache. */
export interface Login {
  readonly login: string;
  readonly password: string;
}

/** An entry of a netrc file. */
export interface NetrcEntry extends Login {
  /** The host, without a port; null for `default`, which stands for every host. */
  readonly machine: string | null;
}

/**
 * Parses a netrc file as curl does, and so Nix. Ignores what it does not know.
 *
 * @see https://everything.curl.dev/usingcurl/netrc.html
 */
export function parseNetrc(text: string): NetrcEntry[] {
  const entries: { machine: string | null; login: string; password: string }[] = [];
  const words = readWords(text);
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    const current = entries.at(-1);
    if (word === 'machine') entries.push({ machine: words.shift() ?? '', login: '', password: '' });
    else if (word === 'default') entries.push({ machine: null, login: '', password: '' });
    else if (word === 'login' && current) current.login = words.shift() ?? '';
    else if (word === 'password' && current) current.password = words.shift() ?? '';
    // Its value may be one of these words.
    else if (word === 'account') words.shift();
  }
  return entries;
}

/** Returns the words, without comments and macros. */
function readWords(text: string): string[] {
  // A macro ends at an empty line.
  const rest = text.replaceAll(/^[ \t]*macdef[ \t].*(?:\r?\n.*\S.*)*/gm, '');
  const tokens = rest.matchAll(/(?<=^|\s)(?:#.*|"((?:[^"\\\n]|\\.)*)"|(\S+))/g);
  return [...tokens].flatMap(([, quoted, plain]) => {
    if (quoted !== undefined) return [quoted.replaceAll(/\\(.)/g, unescape)];
    return plain === undefined ? [] : [plain];
  });
}

const escapes: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

function unescape(_: string, character: string): string {
  return escapes[character] ?? character;
}

/**
 * Returns the first entry for the host of `url`, or `default`. Ports do not matter, as in curl.
 *
 * @param mayBeDefault whether `default` counts
 */
export function findLogin(
  entries: readonly NetrcEntry[],
  url: string,
  mayBeDefault: boolean,
): Login | undefined {
  const host = new URL(url).hostname.replaceAll(/^\[|\]$/g, '');
  return entries.find(({ machine }) =>
    machine === null ? mayBeDefault : machine.toLowerCase() === host,
  );
}

/**
 * Returns the login for a cache, which the user chose or another cache named as its upstream.
 */
export type FindLogin = (url: string, chosenBy: 'user' | 'cache') => Promise<Login | undefined>;

/**
 * Returns the logins of a netrc file, which is read once, on first use. A missing file has none. Nor has
 * one that only Nix's daemon may read.
 */
export function netrcLogins(findFile: () => Promise<string>): FindLogin {
  let reading: Promise<NetrcEntry[]> | undefined;

  async function read(): Promise<NetrcEntry[]> {
    const file = await findFile();
    return parseNetrc(await readFile(file, 'utf8').catch(() => ''));
  }

  // A cache must not choose who receives the login for every host.
  return async (url, chosenBy) => findLogin(await (reading ??= read()), url, chosenBy === 'user');
}
