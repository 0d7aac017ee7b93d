import { Readable } from 'node:stream';
import packageJson from '../../../package.json' with { type: 'json' };
import type { Output } from '../../../cli/process/context.ts';
import { run } from '../../../cli/main.ts';
import { takeSecrets } from '../../../cli/secrets/secret-variables.ts';

export interface CommandOptions {
  /** Variables in addition to this process's own; undefined removes one. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** @default this process's */
  readonly cwd?: string;
  /** Its standard input. @default empty */
  readonly input?: string;
}

export interface CommandResult {
  /** The exit status. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a command line of niche in this process. For tests of signals, terminals, pipes, or the
 * environment that SDKs read, use a separate process: {@link ./niche-process.ts}.
 */
export async function runCommand(
  args: readonly string[],
  { env: variables, cwd = process.cwd(), input = '' }: CommandOptions = {},
): Promise<CommandResult> {
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    NICHE_CACHE_URL: undefined,
    NICHE_DEBUG: undefined,
    ...variables,
  };
  const stdout = capture();
  const stderr = capture();
  let status = 0;
  await run(args, {
    secrets: takeSecrets(env),
    env,
    cwd,
    version: packageJson.version,
    stdout,
    stderr,
    stdin: stdinOf(input),
    setExitStatus(given) {
      status = given;
    },
  });
  return { status, stdout: stdout.text(), stderr: stderr.text() };
}

function capture(): Output & { text(): string } {
  let written = '';
  return {
    write(text) {
      written += text;
    },
    clearLine: () => undefined,
    isTty: false,
    columns: 80,
    text: () => written,
  };
}

/** A pipe instead of a terminal: commands only read it and check whether it is a TTY. */
function stdinOf(input: string): NodeJS.ReadStream {
  const bytes = Readable.from(input === '' ? [] : [Buffer.from(input)], { objectMode: false });
  return Object.assign(bytes, { isTTY: false }) as unknown as NodeJS.ReadStream;
}
