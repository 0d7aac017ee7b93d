import { isNicheError, messageOf } from '../../core/errors.ts';
import { redactSecrets } from '../../core/redact.ts';

export type Level = 'info' | 'warn' | 'error';

/** A structured log: one record a line. Secrets in errors are redacted. */
export interface Log {
  info(message: string, fields?: object): void;
  warn(message: string, fields?: object): void;
  error(message: string, fields?: object): void;
  /** Returns a log that adds `fields` to each record. */
  with(fields: object): Log;
}

/** One record. Each cloud writes it in its own format. */
export interface LogRecord {
  readonly level: Level;
  /** ISO 8601. */
  readonly at: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

/** Returns a log that passes its records to `write`. */
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

/** Returns the log fields of an error. Only an unexpected error has its stack. */
export function describeFailure(error: unknown): object {
  if (!isNicheError(error)) {
    const stack = error instanceof Error ? redactSecrets(error.stack ?? '') : undefined;
    return { code: 'internal', error: messageOf(error), stack };
  }
  const { code, message, hint } = error;
  return { code, error: message, ...(hint === undefined ? {} : { hint }) };
}
