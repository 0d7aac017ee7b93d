import { maxJsonDepth } from '../limits.ts';

/**
 * Parses JSON from elsewhere. `JSON.parse` itself accepts any nesting, but the code that checks, prints
 * or converts the result recurses: 200 KB of brackets would overflow the stack there.
 *
 * @throws SyntaxError also for more than {@link maxJsonDepth} levels of objects and arrays
 */
export function parseJson(text: string): unknown {
  if (isNestedDeeper(text, maxJsonDepth)) {
    throw new SyntaxError(`it has more than ${maxJsonDepth} levels of objects and arrays`);
  }
  return JSON.parse(text);
}

const quotationMark = 0x22;
const backslash = 0x5c;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

/** Returns whether the brackets and braces outside of strings are nested deeper than `limit`. */
function isNestedDeeper(text: string, limit: number): boolean {
  let depth = 0;
  let isInString = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (isInString) {
      if (code === backslash) at++;
      else if (code === quotationMark) isInString = false;
    } else if (code === quotationMark) {
      isInString = true;
    } else if (code === openBracket || code === openBrace) {
      if (++depth > limit) return true;
    } else if (code === closeBracket || code === closeBrace) {
      depth--;
    }
  }
  return false;
}
