import { createInterface } from 'node:readline';

import { NicheError, isNicheError } from '../../core/errors.ts';
import type { Context } from '../process/context.ts';
import { editText } from './edit-text.ts';

interface Edited<T> {
  readonly text: string;
  /** Names the file that the editor is shown. */
  readonly name: string;
  /** The document, for messages. */
  readonly where: string;
  /** @throws NicheError for what is not valid, without any of it */
  readonly parse: (text: string) => T;
}

/**
 * Lets the user change a secret text until it is valid. On a terminal they are asked whether to go on
 * with what they left; the text is in no file while they think.
 *
 * @throws NicheError of `parse`, saying where nothing was changed; what {@link editText} throws
 */
export async function editValid<T>(
  { text, name, where, parse }: Edited<T>,
  context: Context,
): Promise<T> {
  let current = text;
  for (;;) {
    current = await editText(current, name, context.env);
    try {
      return parse(current);
    } catch (error) {
      if (!isNicheError(error)) throw error;
      if (await wantsAgain(error.message, context)) continue;
      throw new NicheError(error.code, error.message, {
        cause: error,
        hint: `nothing was changed in ${where}: edit it again`,
      });
    }
  }
}

/** Where nobody is there to answer, the answer is no. */
async function wantsAgain(why: string, { stdin, stderr }: Context): Promise<boolean> {
  if (!stdin.isTTY || !stderr.isTty) return false;
  stderr.write(`niche: ${why}\nniche: open it in the editor again? [Y/n] `);
  // The terminal itself echoes and edits the line.
  const reader = createInterface({ input: stdin, terminal: false });
  const answer = await new Promise<string>((resolve) => {
    reader.once('line', resolve);
    reader.once('close', () => {
      resolve('n');
    });
  });
  reader.close();
  return /^(?:y(?:es)?)?$/i.test(answer.trim());
}
