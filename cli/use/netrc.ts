import { readFile } from 'node:fs/promises';

import { NicheError, messageOf, quote } from '../../core/errors.ts';
import type { Login } from '../../core/util/netrc.ts';
import { shellWord } from '../../core/util/shell.ts';
import { nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';
import { readConfFile, replaceConfFile } from './conf-file.ts';

/** The result of a change to a netrc file. */
export interface NetrcWritten {
  readonly file: string;
  readonly change: 'added' | 'updated' | 'unchanged' | 'removed';
}

/**
 * Returns the login. The password comes from a file or `NICHE_NETRC_PASSWORD`, never from the command
 * line, which every user of a machine can read.
 *
 * @throws NicheError `usage` when a part is missing or netrc cannot contain it; `storage-denied`
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
      `no ${login === undefined ? 'login name' : 'password'} given: --netrc needs a login name and a password`,
      {
        hint: 'pass --login and --password-file, or set NICHE_NETRC_LOGIN and NICHE_NETRC_PASSWORD',
      },
    );
  }
  for (const [name, value] of Object.entries({ login, password })) {
    // Only recent releases of curl interpret quotes and backslashes.
    if (!/^[\x21-\x7e]+$/.test(value) || /["\\]/.test(value) || value.startsWith('#')) {
      throw new NicheError(
        'usage',
        `netrc cannot contain the ${name}: expected printable ASCII without spaces, quotes and backslashes`,
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
      `cannot read the password in ${quote(file)}: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/**
 * Adds or updates the line for the host of `url` in a netrc file. Only the owner can read a new file,
 * and other users never can.
 *
 * @throws NicheError `malformed-config` when the entry of the host has several lines; `storage-denied`;
 *   `usage` when `url` is not an HTTP URL
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
    // Readers ignore everything after `default`.
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
 * Removes the line for the host of `url`, and deletes the file if it is then empty.
 *
 * @returns null when there is no line
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

/** Returns the host without its port, which netrc does not support. */
function hostOf(url: string): string {
  const parsed = /^https?:/i.test(url) ? URL.parse(url) : null;
  if (parsed) return parsed.hostname;
  throw new NicheError(
    'usage',
    `--netrc is only for caches over HTTP: expected https://…, got ${quote(url)}`,
    { hint: `to read a private bucket, run niche serve ${shellWord(url)}` },
  );
}

function linesOf(text: string): string[] {
  return text === '' ? [] : text.replace(/\n$/, '').split('\n');
}

/**
 * Returns the index of the host's entry, one line as niche writes it; -1 when there is none.
 *
 * @throws NicheError `malformed-config` for an entry of several lines
 */
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
    `cannot change the entry of ${quote(machine)} in ${quote(file)}, line ${at + 1}: expected one line with machine, login and password`,
    { hint: 'edit or delete the entry' },
  );
}
