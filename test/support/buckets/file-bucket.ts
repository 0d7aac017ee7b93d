import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { openFileBucket } from '../../../core/storage/file/driver.ts';

interface TemporaryFileBucket {
  readonly bucket: Bucket;
  /** The absolute path. */
  readonly directory: string;
  readonly close: () => Promise<void>;
}

/** A bucket in a directory that `close` removes. */
export async function temporaryFileBucket(): Promise<TemporaryFileBucket> {
  const directory = await mkdtemp(join(tmpdir(), 'niche-bucket-'));
  return {
    bucket: openFileBucket(directory),
    directory,
    close: () => rm(directory, { recursive: true, force: true }),
  };
}

const child = fileURLToPath(import.meta.resolve('./file-bucket-child.ts'));

/** Returns the output of a task of file-bucket-child.ts. */
export async function runFileBucketChild(...task: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [child, ...task]);
  return stdout;
}

/** Does the same, and blocks this process meanwhile. */
export function runFileBucketChildSync(...task: readonly string[]): string {
  return execFileSync(process.execPath, [child, ...task], { encoding: 'utf8' });
}

/** A task that answers each line with one. */
interface FileBucketChild {
  /** Sends a line, and resolves when the next one arrives. */
  ask(line: string): Promise<unknown>;
  stop(): Promise<void>;
}

/** Starts a task that reads lines. */
export function startFileBucketChild(...task: readonly string[]): FileBucketChild {
  const running = spawn(process.execPath, [child, ...task], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  return {
    ask(line) {
      running.stdin.write(`${line}\n`);
      return once(running.stdout, 'data');
    },
    async stop() {
      running.stdin.end();
      if (running.exitCode === null) await once(running, 'close');
    },
  };
}

/** Runs a task until it prints its first line, and kills it immediately. */
export async function killFileBucketChild(...task: readonly string[]): Promise<void> {
  const running = spawn(process.execPath, [child, ...task], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(running.stdout, 'data');
  running.kill('SIGKILL');
  await once(running, 'close');
}
