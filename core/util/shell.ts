/** `text` as one word of a POSIX shell, whatever it holds. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** {@link shellQuote}, for people to read: as it is where no shell would take it for anything else. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_/.:=@%+-]+$/.test(text) ? text : shellQuote(text);
}
