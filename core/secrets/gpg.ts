import { spawn } from 'node:child_process';
import { text as readText } from 'node:stream/consumers';

import { NicheError, messageOf, quote } from '../errors.ts';

/** The user's GnuPG. */
export interface GpgOptions {
  /** @default 'gpg' */
  readonly program?: string | undefined;
  /** Its whole environment: `HOME`, `GNUPGHOME`, `GPG_TTY`, … */
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface GpgResult {
  readonly ok: boolean;
  readonly output: Buffer;
  /** The status lines, `KEYWORD arguments` each (GnuPG's doc/DETAILS). */
  readonly status: readonly string[];
  /** The last lines of its standard error. */
  readonly complaint: string;
}

/** More than any encrypted data key. */
const maxOutputBytes = 64 * 1024;

/**
 * Runs gpg with `input` on a pipe. Its agent asks for a passphrase or smartcard as usual. Without
 * `--quiet`, which would omit the reason of a failure from the status lines.
 *
 * @returns null if the program is not installed
 * @throws NicheError `identity-failed` if it cannot be run
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
  // gpg may exit without reading its input.
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
    throw new NicheError('identity-failed', `running ${quote(program)}: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/** Returns the libgpg-error codes of status lines such as `ERROR pkdecrypt_failed 67108875`. */
export function gpgErrorCodes(status: readonly string[]): number[] {
  return status
    .filter((line) => /^(?:ERROR|FAILURE) /.test(line))
    .map((line) => Number(line.split(' ')[2]) & 0xffff);
}
