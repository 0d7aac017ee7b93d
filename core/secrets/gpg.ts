import { spawn } from 'node:child_process';
import { text as readText } from 'node:stream/consumers';

import { NicheError, messageOf, quote } from '../errors.ts';

/** The user's GnuPG. */
export interface GpgOptions {
  /** @default 'gpg' */
  readonly program?: string | undefined;
  /** Its whole environment: `HOME`, `GNUPGHOME`, `GPG_TTY`… */
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface GpgResult {
  readonly ok: boolean;
  readonly output: Buffer;
  /** What it says for programs, `KEYWORD arguments` each (GnuPG's doc/DETAILS). */
  readonly status: readonly string[];
  /** What it says for people, its last lines. */
  readonly complaint: string;
}

/** A data key's worth; more is a mistake. */
const maxOutputBytes = 64 * 1024;

/**
 * Runs gpg on `input`, which like the result goes through pipes. Its agent asks for a passphrase or
 * a smartcard where it always does. Not with `--quiet`, which leaves out of its status why it failed.
 *
 * @returns null when there is no such program
 * @throws NicheError `identity-failed` when it cannot be run
 */
export async function runGpg(
  { program = 'gpg', env }: GpgOptions,
  args: readonly string[],
  input: string | Uint8Array,
): Promise<GpgResult | null> {
  const child = spawn(program, ['--batch', '--status-fd', '3', ...args], {
    env,
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  // It may well end without reading what it was given.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const chunks: Buffer[] = [];
  let size = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size <= maxOutputBytes) chunks.push(chunk);
  });
  const status = readText(child.stdio[3] as NodeJS.ReadableStream);
  const complaint = readText(child.stderr);
  try {
    const [code, statusText, complaints] = await Promise.all([ended, status, complaint]);
    return {
      ok: code === 0 && size <= maxOutputBytes,
      output: Buffer.concat(chunks),
      status: statusText
        .split('\n')
        .filter((line) => line.startsWith('[GNUPG:] '))
        .map((line) => line.slice('[GNUPG:] '.length)),
      complaint: complaints.trim().split('\n').slice(-3).join('; '),
    };
  } catch (cause) {
    status.catch(() => undefined);
    complaint.catch(() => undefined);
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new NicheError('identity-failed', `cannot run ${quote(program)}: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/** The number of a libgpg-error in a status line such as `ERROR pkdecrypt_failed 67108875`. */
export function gpgErrorCodes(status: readonly string[]): number[] {
  return status
    .filter((line) => /^(?:ERROR|FAILURE) /.test(line))
    .map((line) => Number(line.split(' ')[2]) & 0xffff);
}
