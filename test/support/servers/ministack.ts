import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestContext } from 'node:test';
import { findProgram } from '../../setup/programs.ts';
import { freePort } from './free-port.ts';
import { programPath, requireTool } from '../assert/required.ts';
import { waitLimitMs } from '../assert/until.ts';

/** An AWS for one test, which keeps everything in memory. */
export interface Ministack {
  /** `http://127.0.0.1:PORT`, for every service. */
  readonly endpoint: string;
  readonly region: string;
  readonly accountId: string;
  /** The credentials of the account's root user, which can do everything. */
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** Variables with which SDKs and commands use it as the root user. */
  readonly env: Readonly<Record<string, string>>;
  /** Its process, for tests that inspect its children. */
  readonly pid: number;
  /** Its output so far. */
  output(): string;
  close(): Promise<void>;
}

export interface MinistackOptions {
  /** Whether policies are enforced. @default true */
  readonly iam?: boolean;
}

/**
 * Starts it. If it is not installed, skips the test with a hint; in CI it fails.
 * @returns null when the test was skipped and must return
 */
export async function requireMinistack(
  t: TestContext,
  options: MinistackOptions = {},
): Promise<Ministack | null> {
  if (requireTool(t, 'ministack', findProgram('ministack')) === null) return null;
  const started = await startMinistack(options);
  t.after(() => started.close());
  return started;
}

/**
 * Starts it. The caller must close it.
 * @throws Error when it is not installed, or does not start
 */
export async function startMinistack({ iam = true }: MinistackOptions = {}): Promise<Ministack> {
  const command = programPath('ministack');
  const folder = await mkdtemp(join(tmpdir(), 'niche-ministack-'));
  const port = await freePort();
  const [endpoint, region, accountId] = [
    `http://127.0.0.1:${port}`,
    'eu-central-1',
    '000000000000',
  ];
  const child = spawn(command, [], {
    // Its functions are processes of this group, which are killed with it.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      // Its functions run on the Node of this process.
      PATH: [dirname(process.execPath), '/usr/bin', '/bin'].join(delimiter),
      HOME: folder,
      TMPDIR: folder,
      BIND_HOST: '127.0.0.1',
      MINISTACK_HOST: '127.0.0.1',
      GATEWAY_PORT: String(port),
      MINISTACK_REGION: region,
      MINISTACK_ACCOUNT_ID: accountId,
      AWS_DEFAULT_REGION: region,
      AUTH: String(iam),
      PYTHONPATH: join(import.meta.dirname, 'ministack'),
      PYTHONDONTWRITEBYTECODE: '1',
      // By default it listens on another port, on every interface.
      IOT_MTLS_ENABLED: '0',
      LOG_LEVEL: 'INFO',
    },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  const ended = once(child, 'close');
  const { pid = 0 } = child;

  async function close(): Promise<void> {
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      try {
        process.kill(-pid, signal);
      } catch {
        break; // The whole group has exited.
      }
      await Promise.race([ended, sleep(3_000)]);
    }
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }

  const until = Date.now() + waitLimitMs;
  while (!(await isHealthy(endpoint))) {
    if (child.exitCode !== null || Date.now() > until) {
      await close();
      throw new Error(`ministack did not start:\n${output.slice(-2000)}`);
    }
    await sleep(100);
  }
  const credentials = { accessKeyId: 'test', secretAccessKey: 'test' };
  return {
    endpoint,
    region,
    accountId,
    credentials,
    pid,
    env: {
      AWS_ENDPOINT_URL: endpoint,
      AWS_REGION: region,
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    },
    output: () => output,
    close,
  };
}

async function isHealthy(endpoint: string): Promise<boolean> {
  try {
    return (await fetch(`${endpoint}/_ministack/health`)).ok;
  } catch {
    return false;
  }
}
