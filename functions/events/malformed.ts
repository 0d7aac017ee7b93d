import { NicheError, messageOf, quote } from '../../core/errors.ts';

/** What an event that cannot be read is refused with. */
export function malformedEvent(what: string, cause?: unknown): NicheError {
  return new NicheError('malformed-event', `an event cannot be read: ${what}`, { cause });
}

/** @throws NicheError `malformed-event` */
export function parseEventBody(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch (cause) {
    throw malformedEvent(`expected JSON, got ${quote(body)}: ${messageOf(cause)}`, cause);
  }
}
