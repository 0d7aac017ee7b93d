import { homedir } from 'node:os';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Returns `text`, or undefined when it is empty: an empty variable counts as unset. */
export function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

/** Returns the user's home folder. */
export function homeOf(env: Environment): string {
  return nonEmpty(env['HOME']) ?? homedir();
}
