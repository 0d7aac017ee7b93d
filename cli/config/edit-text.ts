import { spawn } from 'node:child_process';
import { accessSync, constants, readdirSync, rmSync } from 'node:fs';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { NicheError, messageOf, quote } from '../../core/errors.ts';
import { nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';
import { splitWords } from '../../core/util/shell.ts';

const prefix = 'niche-edit-';
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Lets the user change a secret text in their editor. It lies in a folder that only they can enter,
 * in memory where there is such a place, and is gone afterwards however this ends; what a killed
 * niche left goes with the next edit.
 *
 * @returns the text as the editor left it
 * @throws NicheError `usage` when the editor fails
 */
export async function editText(text: string, name: string, env: Environment): Promise<string> {
  const place = memoryFolder(env);
  removeLeftovers(place);
  const folder = await mkdtemp(path.join(place, `${prefix}${process.pid}-`));
  const remove = (): void => {
    rmSync(folder, { recursive: true, force: true });
  };
  // An editor in the foreground gets Ctrl-C too, and decides what to do about it.
  const onSignal = (signal: NodeJS.Signals): void => {
    if (signal === 'SIGINT') return;
    process.exit(1);
  };
  process.on('exit', remove);
  for (const signal of signals) process.on(signal, onSignal);
  try {
    const file = path.join(folder, name);
    await writeFile(file, text, { mode: 0o600 });
    await runEditor(file, env);
    return await readFile(file, 'utf8');
  } finally {
    for (const signal of signals) process.off(signal, onSignal);
    process.off('exit', remove);
    remove();
  }
}

/** A file system in memory that this user may write to, else the usual folder. */
function memoryFolder(env: Environment): string {
  const candidates = [nonEmpty(env['XDG_RUNTIME_DIR']), '/dev/shm'];
  const found = candidates.find((folder) => {
    try {
      accessSync(folder ?? '', constants.W_OK | constants.X_OK);
      return folder !== undefined;
    } catch {
      return false;
    }
  });
  return found ?? tmpdir();
}

function removeLeftovers(place: string): void {
  for (const name of readdirSync(place)) {
    const pid = Number(/^niche-edit-(\d+)-/.exec(name)?.[1] ?? 0);
    if (pid > 0 && !isRunning(pid)) {
      rmSync(path.join(place, name), { recursive: true, force: true });
    }
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It runs, but as somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function runEditor(file: string, env: Environment): Promise<void> {
  const line = nonEmpty(env['VISUAL']) ?? nonEmpty(env['EDITOR']) ?? 'vi';
  const [program, ...args] = splitWords(line) ?? [];
  const fail = (why: string, cause?: unknown): never => {
    throw new NicheError('usage', `the editor ${quote(line)} ${why}: nothing was changed`, {
      cause,
      hint: 'set EDITOR to one that waits until the file is closed',
    });
  };
  if (program === undefined) return fail('is no command');
  const child = spawn(program, [...args, file], { env, stdio: 'inherit' });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  }).catch((error: unknown) => fail(messageOf(error), error));
  if (status !== 0) fail(status === null ? 'was killed' : `ended with ${status}`);
}
