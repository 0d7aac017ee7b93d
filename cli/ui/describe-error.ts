import { isNicheError, messageOf, traceOf } from '../../core/errors.ts';
import { nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';

/**
 * Returns the lines to print for an error: what failed, then a hint. With `NICHE_DEBUG` set they
 * include the stack trace and the causes.
 *
 * @param action goes before the message, as in `upload failed: …`
 */
export function describeError(error: unknown, env: Environment, action?: string): string[] {
  const isDebugging = nonEmpty(env['NICHE_DEBUG']) !== undefined;
  const trace = isDebugging ? traceOf(error).split('\n') : [];
  const prefix = action === undefined ? 'niche' : `niche: ${action}`;
  if (isNicheError(error)) {
    return [`${prefix}: ${error.message}`, ...hintOf(error), ...trace];
  }
  const hint = isDebugging ? [] : ['hint: report this bug with the output of NICHE_DEBUG=1'];
  return [`${prefix}: internal error: ${messageOf(error)}`, ...hint, ...trace];
}

/** Returns the line with an error's hint, if it has one. */
export function hintOf(error: unknown): string[] {
  return isNicheError(error) && error.hint !== undefined ? [`hint: ${error.hint}`] : [];
}
