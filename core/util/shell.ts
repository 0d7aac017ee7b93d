/** Quotes `text` as one word of a POSIX shell, whatever its characters. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Does {@link shellQuote}, except where a shell needs no quotes: easier to read. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_/.:=@%+-]+$/.test(text) ? text : shellQuote(text);
}

/**
 * Splits a command line into words at white space, with the quotes and the backslash of a POSIX
 * shell. Supports nothing else of a shell.
 *
 * @returns null when a quote is not closed
 */
export function splitWords(line: string): string[] | null {
  const words: string[] = [];
  let word: string | null = null;
  const part = /\s+|'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^\s'"\\]+)/gsy;
  let end = 0;
  for (const match of line.matchAll(part)) {
    const [whole, single, double, escaped, plain] = match;
    end = match.index + whole.length;
    const text = single ?? double?.replace(/\\(["\\$`])/g, '$1') ?? escaped ?? plain;
    if (text !== undefined) {
      word = (word ?? '') + text;
    } else if (word !== null) {
      words.push(word);
      word = null;
    }
  }
  if (end < line.length) return null;
  return word === null ? words : [...words, word];
}
