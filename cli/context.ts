import type { Environment } from './environment.ts';

/** What a command is given of the process around it. */
export interface Context {
  /** Without what only niche itself may know: whatever niche runs is given this one. */
  readonly env: Environment;
  /** What was taken out of the environment. */
  readonly secrets: Environment;
  readonly cwd: string;
  readonly version: string;
  /** Where what was asked for goes. */
  readonly stdout: Output;
  /** Where everything else goes. */
  readonly stderr: Output;
  readonly stdin: NodeJS.ReadStream;
  /** Becomes the exit status once the command has ended. @default 0 */
  setExitStatus(status: number): void;
}

export interface Output {
  write(text: string): void;
  /** Whether a person may be watching: a live line can be redrawn. */
  readonly isTty: boolean;
  /** Of a terminal, in characters. */
  readonly columns: number;
}

/** Whether the user asked for the most verbose log. */
export function isDebugging(context: Context): boolean {
  return (context.env['NICHE_DEBUG'] ?? '') !== '';
}

/** Something staged is not published yet; running the command again later may help. */
export const statusNotPublished = 75;
/** Something was rejected, or could not be staged. */
export const statusRejected = 76;
