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
 * Lets the user change a secret text in their editor, and returns the new text. The text is in a
 * private folder, in memory if possible, which is deleted in the end. The next edit deletes the folder
 * of a process that was killed.
 *
 * @throws NicheError `usage` when the editor fails
 */
export async function editText(text: string, name: string, env: Environment): Promise<string> {
  const parent = memoryFolder(env);
  removeLeftovers(parent);
  const folder = await mkdtemp(path.join(parent, `${prefix}${process.pid}-`));
  const remove = (): void => {
    rmSync(folder, { recursive: true, force: true });
  };
  // An editor in the foreground receives Ctrl-C too, and decides what to do.
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

/** Returns a writable folder in memory, else the usual temporary folder. */
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

/** Deletes the folders of processes that were killed. */
function removeLeftovers(parent: string): void {
  for (const name of readdirSync(parent)) {
    const pid = Number(/^niche-edit-(\d+)-/.exec(name)?.[1] ?? 0);
    if (pid > 0 && !isRunning(pid)) {
      rmSync(path.join(parent, name), { recursive: true, force: true });
    }
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // The process runs as another user.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function runEditor(file: string, env: Environment): Promise<void> {
  const line = nonEmpty(env['VISUAL']) ?? nonEmpty(env['EDITOR']) ?? 'vi';
  const [program, ...args] = splitWords(line) ?? [];
  const fail = (why: string, cause?: unknown): never => {
    throw new NicheError('usage', `cannot edit the document: the editor ${quote(line)} ${why}`, {
      cause,
      hint: 'set EDITOR to a command that waits until the file is closed',
    });
  };
  if (program === undefined) return fail('is not a command');
  const child = spawn(program, [...args, file], { env, stdio: 'inherit' });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  }).catch((error: unknown) => fail(`failed: ${messageOf(error)}`, error));
  if (status !== 0) fail(status === null ? 'was killed' : `exited with status ${status}`);
}
