import type { Output } from './context.ts';

/**
 * Returns a standard stream as commands write to it. A terminal gets no control character from
 * elsewhere, such as from a log, a receipt or a narinfo. What a program reads stays as it is.
 *
 * @param onFailed called when writing fails, as on a full disk or a closed pipe
 */
export function openOutput(
  stream: NodeJS.WriteStream,
  { isForPeople, onFailed }: { isForPeople: boolean; onFailed: (error: Error) => void },
): Output {
  stream.on('error', onFailed);
  return {
    write: (text) => {
      stream.write(isForPeople || stream.isTTY ? printable(text) : text);
    },
    clearLine: (width) => {
      stream.write(`\r${' '.repeat(width)}\r`);
    },
    isTty: stream.isTTY,
    columns: stream.columns,
  };
}

/**
 * Replaces control characters, which could move the cursor or change the terminal, and characters that
 * change the direction of text. Keeps tabs and line breaks.
 */
export function printable(text: string): string {
  return text.replaceAll(/(?!\n|\t|\r\n)[\p{Cc}\p{Bidi_Control}]/gu, '\u{fffd}');
}
