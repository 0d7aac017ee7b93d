import { inspect } from 'node:util';

import { isNicheError, messageOf } from '../../core/errors.ts';
import { nonEmpty } from '../environment.ts';
import type { Environment } from '../environment.ts';

/** What went wrong and what to do next, in lines; with `NICHE_DEBUG` also where in the code. */
export function describeError(error: unknown, env: Environment): string[] {
  const isDebugging = nonEmpty(env['NICHE_DEBUG']) !== undefined;
  const trace = isDebugging ? inspect(error).split('\n') : [];
  if (isNicheError(error)) {
    return [error.message, ...(error.hint === undefined ? [] : [error.hint]), ...trace];
  }
  const next = isDebugging ? '' : '; please report it with what NICHE_DEBUG=1 prints';
  return [`a bug in niche: ${messageOf(error)}${next}`, ...trace];
}
