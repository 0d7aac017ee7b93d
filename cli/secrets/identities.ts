import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { text as readText } from 'node:stream/consumers';

import { messageOf } from '../../core/errors.ts';
import { ageIdentity, isAgeSecretKey, parseAgeKeys } from '../../core/secrets/age.ts';
import type { AgeKeys } from '../../core/secrets/age.ts';
import { createKeyring } from '../../core/secrets/keyring.ts';
import type { Keyring } from '../../core/secrets/recipient.ts';
import { parseSshPrivateKey } from '../../core/secrets/ssh-key.ts';
import type { SshPrivateKey } from '../../core/secrets/ssh-key.ts';
import type { Context } from '../process/context.ts';
import { homeOf, nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';
import { isErrno } from '../../core/util/errno.ts';
import { splitWords } from '../../core/util/shell.ts';

/**
 * Returns the keyring of this user. It finds identities where `sops` does (getsops.io/docs,
 * “Encrypting using age”), and reads or runs nothing until a document needs such an identity.
 *
 * @param env environment, also that of gpg and of the commands that print a key
 * @param secrets environment with `SOPS_AGE_KEY`, which those commands do not get
 * @param platform as in `process.platform`
 */
export function openKeyring(
  env: Environment,
  secrets: Environment = env,
  platform = process.platform,
): Keyring {
  const found = new Map<string, Promise<AgeKeys>>();
  return createKeyring({
    age: ageIdentity((recipient) => {
      // Only commands depend on the recipient. Everything else is read once.
      const usesCommand = ageCommands.some((name) => nonEmpty(env[name]) !== undefined);
      const key = usesCommand ? recipient : '';
      const keys = found.get(key) ?? findAgeKeys({ env, secrets, recipient, platform });
      found.set(key, keys);
      return keys;
    }),
    gpg: { program: nonEmpty(env['SOPS_GPG_EXEC']), env },
  });
}

const keyrings = new WeakMap<Context, Keyring>();

/** Returns the keyring of this command, which searches for its keys only once. */
export function keyringOf(context: Context): Keyring {
  const keyring = keyrings.get(context) ?? openKeyring(context.env, context.secrets);
  keyrings.set(context, keyring);
  return keyring;
}

const ageCommands = ['SOPS_AGE_KEY_CMD', 'SOPS_AGE_SSH_PRIVATE_KEY_CMD'];

/** The keys in a source as text, or why there are none, for messages. */
type Found = { readonly text: string } | { readonly problem: string };

/** Where keys may be: a variable, a file or a command. */
interface Source {
  readonly name: string;
  readonly kind: 'age' | 'ssh';
  /** Whether a line may have several keys, as in `SOPS_AGE_KEY`. */
  readonly hasManyPerLine?: boolean;
  readonly read: () => Found | Promise<Found>;
}

interface Search {
  readonly env: Environment;
  readonly secrets: Environment;
  readonly recipient: string;
  readonly platform: NodeJS.Platform;
}

async function findAgeKeys(search: Search): Promise<AgeKeys> {
  const secretKeys: string[] = [];
  const sshKeys: SshPrivateKey[] = [];
  const tried: string[] = [];
  for (const { name, kind, hasManyPerLine = false, read } of sourcesOf(search)) {
    const found = await read();
    if ('problem' in found) {
      tried.push(`${name}: ${found.problem}`);
      continue;
    }
    const [keys, remark] =
      kind === 'ssh' ? readSsh(found.text) : readAge(found.text, hasManyPerLine);
    for (const key of keys) {
      if (typeof key === 'string') secretKeys.push(key);
      else sshKeys.push(key);
    }
    tried.push(`${name}: ${remark}`);
  }
  return { secretKeys, sshKeys, tried };
}

/** niche never prompts: it also runs where nobody can answer. */
const passphraseRemark = 'protected by a passphrase, which niche does not support';

type Keys = readonly [keys: readonly (string | SshPrivateKey)[], remark: string];

function readAge(text: string, hasManyPerLine: boolean): Keys {
  if (/^(?:age-encryption\.org\/|-----BEGIN AGE ENCRYPTED FILE-----)/.test(text)) {
    return [[], passphraseRemark];
  }
  const lines = parseAgeKeys(text, hasManyPerLine);
  const keys = lines.filter(isAgeSecretKey);
  const others = lines.length - keys.length;
  const plugins = others === 0 ? '' : `, ${others} of age plugins, which niche does not support`;
  return [keys, `${keys.length} age ${keys.length === 1 ? 'key' : 'keys'}${plugins}`];
}

function readSsh(text: string): Keys {
  const key = parseSshPrivateKey(text);
  if (key === 'encrypted') return [[], passphraseRemark];
  return key === null ? [[], 'not an SSH key that age supports'] : [[key], 'an SSH key'];
}

/** Returns the sources in the order of `sops`. */
function sourcesOf({ env, secrets, recipient, platform }: Search): Source[] {
  const home = homeOf(env);
  const given = (
    name: string,
    kind: Source['kind'],
    read: (value: string) => Source['read'],
    variables = env,
  ): Source => {
    const value = nonEmpty(variables[name]);
    const isSet = value !== undefined;
    return { name, kind, read: isSet ? read(value) : () => ({ problem: 'not set' }) };
  };
  const file = (name: string) => () => readFile(name);
  const command = (line: string) => () => runCommand(line, env, recipient);
  const ssh = (name: string): Source => {
    const key = path.join(home, '.ssh', name);
    return { name: key, kind: 'ssh', read: file(key) };
  };
  const ageFile = path.join(configHome(env, platform), 'sops', 'age', 'keys.txt');
  return [
    given('SOPS_AGE_SSH_PRIVATE_KEY_FILE', 'ssh', file),
    given('SOPS_AGE_SSH_PRIVATE_KEY_CMD', 'ssh', command),
    ssh('id_ed25519'),
    ssh('id_rsa'),
    { ...given('SOPS_AGE_KEY', 'age', (text) => () => ({ text }), secrets), hasManyPerLine: true },
    given('SOPS_AGE_KEY_FILE', 'age', file),
    given('SOPS_AGE_KEY_CMD', 'age', command),
    { name: ageFile, kind: 'age', read: file(ageFile) },
  ];
}

/** Returns the folder of the user's settings. */
function configHome(env: Environment, platform: NodeJS.Platform): string {
  const chosen = nonEmpty(env['XDG_CONFIG_HOME']);
  if (chosen !== undefined) return chosen;
  const own = platform === 'darwin' ? ['Library', 'Application Support'] : ['.config'];
  return path.join(homeOf(env), ...own);
}

/** Reads at most this much of a key file. */
const maxKeyBytes = 1024 * 1024;

async function readFile(name: string): Promise<Found> {
  try {
    const handle = await open(name);
    try {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(maxKeyBytes));
      return { text: buffer.toString('utf8', 0, bytesRead) };
    } finally {
      await handle.close();
    }
  } catch (error) {
    return { problem: isErrno(error, 'ENOENT', 'ENOTDIR') ? 'missing' : messageOf(error) };
  }
}

/** Runs a command without a shell, as `sops` does. Its standard error goes to the terminal. */
async function runCommand(line: string, env: Environment, recipient: string): Promise<Found> {
  const [program, ...args] = splitWords(line) ?? [];
  if (program === undefined) return { problem: 'not a command' };
  try {
    const child = spawn(program, args, {
      env: { ...env, SOPS_AGE_RECIPIENT: recipient },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const status = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    const [text, code] = await Promise.all([readText(child.stdout), status]);
    if (code === 0) return { text };
    return {
      problem: code === null ? 'the command was killed' : `the command exited with status ${code}`,
    };
  } catch (error) {
    return { problem: messageOf(error) };
  }
}
