import type { Environment } from './environment.ts';

/** The process as a command sees it: everything that it reads, prints and returns. */
export interface Context {
  /** The environment without {@link Context.secrets}: niche passes it on to programs that it runs. */
  readonly env: Environment;
  /** Variables that were removed from the environment, for niche alone. */
  readonly secrets: Environment;
  readonly cwd: string;
  readonly version: string;
  /** For results. */
  readonly stdout: Output;
  /** For progress, warnings and errors. */
  readonly stderr: Output;
  readonly stdin: NodeJS.ReadStream;
  /** Sets the exit status of the process. @default 0 */
  setExitStatus(status: number): void;
}

export interface Output {
  write(text: string): void;
  /** Clears the last line of a terminal, of `width` characters, and returns to its start. */
  clearLine(width: number): void;
  /** Whether it is a terminal, on which a line can be redrawn. */
  readonly isTty: boolean;
  /** The terminal's width in characters. */
  readonly columns: number;
}

/** Returns whether the user enabled the debug log. */
export function isDebugging(context: Context): boolean {
  return (context.env['NICHE_DEBUG'] ?? '') !== '';
}

/** Exit status: something staged is not published yet. A later run may help (EX_TEMPFAIL). */
export const statusNotPublished = 75;
/** Exit status: something was rejected, or could not be staged. */
export const statusRejected = 76;
