import { NicheError, quote } from '../../core/errors.ts';
import type { Captured } from './capture.ts';
import type { NixConfigEntry } from './nix-config.ts';

export type NixTool = 'nix' | 'nix-store' | 'nix-instantiate';

export interface AskOptions {
  readonly signal?: AbortSignal;
  /** Nix configuration on top of the user's. */
  readonly config?: readonly NixConfigEntry[];
  /** The most bytes of standard output to keep. @default all */
  readonly maxBytes?: number;
}

/** Runs a program of Nix to its end. It resolves with any exit status. */
export type Ask = (
  tool: NixTool,
  args: readonly string[],
  options?: AskOptions,
) => Promise<Captured>;

/**
 * Yields what a program of Nix prints, while it runs.
 *
 * @throws NicheError `nix-failed` at the end when its exit status is not 0; `nix-missing`, `aborted`
 */
export type Stream = (
  tool: NixTool,
  args: readonly string[],
  signal?: AbortSignal,
) => AsyncGenerator<Uint8Array, undefined>;

/**
 * Returns what `tool` prints, trimmed.
 *
 * @throws NicheError `nix-failed` when its exit status is not 0
 */
export async function askText(
  ask: Ask,
  tool: NixTool,
  args: readonly string[],
  options?: AskOptions,
): Promise<string> {
  const captured = await ask(tool, args, options);
  if (captured.status !== 0) throw nixFailed(tool, args, captured);
  return captured.stdout.toString('utf8').trim();
}

/** Returns the error for a failed run of `tool`, with the last lines that it printed. */
export function nixFailed(
  tool: string,
  args: readonly string[],
  { status, stderr }: Pick<Captured, 'status' | 'stderr'>,
): NicheError {
  const shown = args.length > 6 ? [...args.slice(0, 6), '…'] : args;
  const lastLines = stderr.trim().split('\n').slice(-8).join('\n');
  const reason = status === null ? 'killed by a signal' : `exit status ${status}`;
  return new NicheError(
    'nix-failed',
    `${quote([tool, ...shown].join(' '))} failed: ${reason}${lastLines === '' ? '' : `\n${lastLines}`}`,
  );
}
