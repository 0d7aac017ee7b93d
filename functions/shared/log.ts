import { isNicheError, messageOf } from '../../core/errors.ts';

export type Level = 'info' | 'warn' | 'error';

/** One line a fact, for machines to search. What is secret is in no message of niche's. */
export interface Log {
  info(message: string, fields?: object): void;
  warn(message: string, fields?: object): void;
  error(message: string, fields?: object): void;
  /** A log whose lines have these fields too. */
  with(fields: object): Log;
}

/** One fact as it is logged; each cloud writes it down in its own form. */
export interface LogRecord {
  readonly level: Level;
  /** ISO 8601. */
  readonly at: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

/** A log whose records go to `write`. */
export function createLog(write: (record: LogRecord) => void, fields: object = {}): Log {
  const line =
    (level: Level) =>
    (message: string, more: object = {}): void => {
      const at = new Date().toISOString();
      write({ level, at, message, ...fields, ...more });
    };
  return {
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    with: (more) => createLog(write, { ...fields, ...more }),
  };
}

/** What a log says of anything thrown. */
export function describeFailure(error: unknown): object {
  if (!isNicheError(error)) {
    const stack = error instanceof Error ? error.stack : undefined;
    return { code: 'internal', error: messageOf(error), stack };
  }
  const { code, message, hint } = error;
  return { code, error: message, ...(hint === undefined ? {} : { hint }) };
}
