import { homedir } from 'node:os';

export type Environment = Readonly<Record<string, string | undefined>>;

/** `text`, or undefined when it is empty: an empty variable or setting counts as none. */
export function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

/** The user's home folder. */
export function homeOf(env: Environment): string {
  return nonEmpty(env['HOME']) ?? homedir();
}
