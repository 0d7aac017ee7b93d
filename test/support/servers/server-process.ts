import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './free-port.ts';
import { until } from '../assert/until.ts';

export interface ServerProcess {
  /** `http://127.0.0.1:<port>` */
  readonly origin: string;
  /** Stops it, and deletes its folder. */
  stop(): Promise<void>;
}

/**
 * Starts a server with an empty folder on a free port, and waits until it responds over HTTP.
 *
 * @param name prefix of the folder's name
 */
export async function startServerProcess(
  name: string,
  command: (port: number, folder: string) => readonly [string, ...string[]],
): Promise<ServerProcess> {
  const folder = await mkdtemp(join(tmpdir(), `niche-${name}-`));
  const port = await freePort();
  const [program, ...args] = command(port, folder);
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const exited = once(child, 'exit');
  // The server must not outlive a killed test runner.
  const kill = (): boolean => child.kill('SIGKILL');
  process.once('exit', kill);
  const stop = async (): Promise<void> => {
    process.off('exit', kill);
    kill();
    await exited;
    await rm(folder, { recursive: true, force: true });
  };
  const origin = `http://127.0.0.1:${port}`;
  try {
    await until(`${name} answers at ${origin}`, async () => {
      if (child.exitCode !== null) throw new Error(`${name} ended at once`);
      const answer = await fetch(origin).catch(() => null);
      await answer?.body?.cancel();
      return answer !== null;
    });
    return { origin, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
