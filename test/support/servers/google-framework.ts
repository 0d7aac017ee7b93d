import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** A function on a real functions framework. */
export interface FrameworkServer {
  /** `127.0.0.1:<port>` */
  readonly host: string;
  /** The lines of the process's output. */
  readonly lines: readonly string[];
  post(path: string, body: unknown, headers?: Readonly<Record<string, string>>): Promise<number>;
  kill(): Promise<void>;
}

/**
 * @param source the folder that is deployed, with the bundle and its package.json
 * @param target the function
 */
export async function startFramework(
  source: string,
  target: string,
  env: Readonly<Record<string, string>>,
): Promise<FrameworkServer> {
  await installFramework(source);
  const script = join(import.meta.dirname, 'google-framework-child.ts');
  const child = fork(script, [], {
    // The flags of a test runner are not inherited.
    execArgv: [],
    env: { ...env, FUNCTION_TARGET: target, FUNCTION_SOURCE: source, K_SERVICE: target },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const lines: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      lines.push(...text.split('\n').filter((line) => line !== ''));
    });
  }
  const started = once(child, 'message') as Promise<[{ port: number }]>;
  const [message] = await Promise.race([
    started,
    once(child, 'exit').then(() => {
      throw new Error(`the framework ended:\n${lines.join('\n')}`);
    }),
  ]);
  const host = `127.0.0.1:${message.port}`;
  return {
    host,
    lines,
    async post(path, body, headers = {}) {
      const response = await fetch(`http://${host}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify(body),
      });
      await response.text();
      return response.status;
    },
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** Replaces `npm install` of the build: links the only dependency from the checkout. */
async function installFramework(source: string): Promise<void> {
  const place = join(source, 'node_modules/@google-cloud/functions-framework');
  await mkdir(dirname(place), { recursive: true });
  const own = join(import.meta.dirname, '../../../node_modules/@google-cloud/functions-framework');
  await symlink(own, place).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  });
}
