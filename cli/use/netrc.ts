import { readFile } from 'node:fs/promises';

import { NicheError, messageOf, quote } from '../../core/errors.ts';
import { nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';
import { readConfFile, replaceConfFile } from './conf-file.ts';

/** What a server of a private cache asks for. */
export interface Login {
  readonly login: string;
  readonly password: string;
}

/** What became of a netrc file. */
export interface NetrcWritten {
  readonly file: string;
  readonly change: 'added' | 'updated' | 'unchanged' | 'removed';
}

/** The netrc that Nix reads where nix.conf names no other. */
export const defaultNetrcFile = '/etc/nix/netrc';

/**
 * Reads the login from `NICHE_NETRC_LOGIN` and `NICHE_NETRC_PASSWORD`, or the password from a file:
 * never from the command line, which every user of a machine can read.
 *
 * @throws NicheError `usage` when there is none or netrc cannot carry it, `storage-denied`
 */
export async function readLogin(
  flags: { readonly login?: string | undefined; readonly passwordFile?: string | undefined },
  env: Environment,
): Promise<Login> {
  const login = flags.login ?? nonEmpty(env['NICHE_NETRC_LOGIN']);
  const password =
    flags.passwordFile === undefined
      ? nonEmpty(env['NICHE_NETRC_PASSWORD'])
      : await readPassword(flags.passwordFile);
  if (login === undefined || password === undefined) {
    throw new NicheError(
      'usage',
      `which ${login === undefined ? 'login' : 'password'}? a private cache's netrc line has both`,
      {
        hint: 'give --login or NICHE_NETRC_LOGIN, and --password-file or NICHE_NETRC_PASSWORD',
      },
    );
  }
  for (const [name, value] of Object.entries({ login, password })) {
    // Quotes and backslashes mean something to new releases of curl, and not to older ones.
    if (!/^[\x21-\x7e]+$/.test(value) || /["\\]/.test(value) || value.startsWith('#')) {
      throw new NicheError(
        'usage',
        `netrc cannot carry the ${name}: expected printable ASCII without spaces, quotes and backslashes`,
      );
    }
  }
  return { login, password };
}

async function readPassword(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    throw new NicheError(
      'storage-denied',
      `cannot read the password in ${file}: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/**
 * Puts the line for the host of `url` into a netrc, or makes the one that is there as it should be.
 * The file is its owner's alone when niche makes it, and never everyone's.
 *
 * @throws NicheError `malformed-config` when the host has an entry of several lines, `storage-denied`
 */
export async function writeNetrc(file: string, url: string, login: Login): Promise<NetrcWritten> {
  const conf = await readConfFile(file);
  const machine = hostOf(url);
  const line = `machine ${machine} login ${login.login} password ${login.password}`;
  const lines = linesOf(conf.text ?? '');
  const at = findLine(lines, machine, file);
  const change = at === -1 ? 'added' : lines[at] === line ? 'unchanged' : 'updated';
  if (at !== -1) lines[at] = line;
  else {
    // Nothing after a `default` is looked at.
    const beforeDefault = lines.findIndex((text) => /^\s*default(?:\s|$)/.test(text));
    lines.splice(beforeDefault === -1 ? lines.length : beforeDefault, 0, line);
  }
  const mode = conf.text === null ? 0o600 : conf.mode & ~0o007;
  if (change !== 'unchanged' || mode !== conf.mode) {
    await replaceConfFile({ ...conf, mode }, `${lines.join('\n')}\n`);
  }
  return { file, change };
}

/**
 * Takes the host's line out again; a file that is empty then is deleted.
 *
 * @returns null when there is none
 */
export async function removeNetrc(file: string, url: string): Promise<NetrcWritten | null> {
  const conf = await readConfFile(file);
  if (conf.text === null) return null;
  const lines = linesOf(conf.text);
  const at = findLine(lines, hostOf(url), file);
  if (at === -1) return null;
  lines.splice(at, 1);
  await replaceConfFile(conf, lines.length === 0 ? null : `${lines.join('\n')}\n`);
  return { file, change: 'removed' };
}

/** Without its port, which netrc knows nothing of. */
function hostOf(url: string): string {
  const parsed = /^https?:/i.test(url) ? URL.parse(url) : null;
  if (parsed) return parsed.hostname;
  throw new NicheError(
    'usage',
    `a netrc is for caches behind HTTP: expected https://…, got ${quote(url)}`,
    { hint: 'serve a private bucket to this machine with: niche serve' },
  );
}

function linesOf(text: string): string[] {
  return text === '' ? [] : text.replace(/\n$/, '').split('\n');
}

/** Where the host's entry is, one line as niche writes it; -1 when there is none. */
function findLine(lines: readonly string[], machine: string, file: string): number {
  const at = lines.findIndex((line) => {
    const words = line.trim().split(/\s+/);
    return words.some((word, index) => word === 'machine' && words[index + 1] === machine);
  });
  const entry = lines[at];
  if (entry === undefined || /^\s*machine\s+\S+\s+login\s+\S+\s+password\s+\S+\s*$/.test(entry)) {
    return at;
  }
  throw new NicheError(
    'malformed-config',
    `${file}, line ${at + 1}: the entry of ${machine} is not one line of machine, login and password`,
    { hint: 'edit it by hand, or delete it' },
  );
}
