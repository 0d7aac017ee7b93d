import { NicheError, quote } from '../../core/errors.ts';
import type { Captured } from './capture.ts';
import type { NixConfigEntry } from './nix-config.ts';

export type NixTool = 'nix' | 'nix-store' | 'nix-instantiate';

export interface AskOptions {
  readonly signal?: AbortSignal;
  /** Configuration over the user's. */
  readonly config?: readonly NixConfigEntry[];
  /** Bytes of stdout kept. Without it, all are. */
  readonly maxBytes?: number;
}

/** Runs one of nix's programs to its end; any exit status is an answer. */
export type Ask = (
  tool: NixTool,
  args: readonly string[],
  options?: AskOptions,
) => Promise<Captured>;

/**
 * What `tool` prints, trimmed.
 *
 * @throws NicheError `nix-failed` when its status is not 0
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

/** The error for a question that `tool` could not answer, with the end of what it said. */
export function nixFailed(
  tool: NixTool,
  args: readonly string[],
  { status, stderr }: Captured,
): NicheError {
  const shown = args.length > 6 ? [...args.slice(0, 6), '…'] : args;
  const said = stderr.trim().split('\n').slice(-8).join('\n');
  const ended = status === null ? 'was killed' : `ended with status ${status}`;
  return new NicheError(
    'nix-failed',
    `${quote([tool, ...shown].join(' '))} ${ended}${said === '' ? '' : `:\n${said}`}`,
  );
}
