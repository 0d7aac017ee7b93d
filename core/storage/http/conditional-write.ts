import { randomBytes } from 'node:crypto';

/** Names whoever writes an object, so that one whose answer was lost knows its own: 16 hex digits. */
export function newWriter(): string {
  return randomBytes(8).toString('hex');
}
