import { createInterface } from 'node:readline';

import { openSecretForEdit, rewriteSecret } from '../../core/cache/keys/edit.ts';
import { parseSecret } from '../../core/cache/secret-documents.ts';
import type { SecretKind } from '../../core/cache/secret-documents.ts';
import { NicheError, isNicheError } from '../../core/errors.ts';
import type { Context } from '../process/context.ts';
import { keyringOf } from '../secrets/identities.ts';
import { openDocument, saveDocument } from './document.ts';
import type { ConfigFlags, Value } from './document.ts';
import { editText } from './edit-text.ts';
import { tryDocument } from './try-document.ts';

/** Runs `niche config edit`. */
export async function editDocument(flags: ConfigFlags, context: Context): Promise<void> {
  const { cache, kind, root } = await openDocument(flags, context);
  const secret = await openSecretForEdit(root, kind, keyringOf(context));
  const value = await editValid(
    {
      text: `${JSON.stringify(secret.value, null, 2)}\n`,
      name: kind.key,
      where: secret.stored.where,
      parse: (text) => parseEdited(text, kind),
    },
    context,
  );
  if (JSON.stringify(value) === JSON.stringify(secret.value)) {
    context.stderr.write('niche: no changes\n');
    return;
  }
  await tryDocument(value, cache, context);
  await saveDocument(root, kind, rewriteSecret(secret, value), secret, context);
}

/** @throws NicheError `malformed-secrets`, `newer-version` */
function parseEdited(text: string, kind: SecretKind<Value>): Value {
  let plain: unknown;
  try {
    plain = JSON.parse(text);
  } catch {
    // The parser's message would quote the text, which may be a secret.
    throw new NicheError('malformed-secrets', 'invalid document: not JSON');
  }
  return parseSecret(plain, kind, 'the edited document');
}

interface Edited<T> {
  readonly text: string;
  /** The name of the file that the editor opens. */
  readonly name: string;
  /** Where the document is stored, for messages. */
  readonly where: string;
  /** @throws NicheError when the text is invalid; the message contains none of the text */
  readonly parse: (text: string) => T;
}

/**
 * Lets the user change a secret text until it is valid. On a terminal they can edit an invalid text
 * again; while niche waits for the answer, the text is in no file.
 *
 * @throws NicheError with the code of `parse`; with the codes of {@link editText}
 */
async function editValid<T>({ text, name, where, parse }: Edited<T>, context: Context): Promise<T> {
  let current = text;
  for (;;) {
    current = await editText(current, name, context.env);
    try {
      return parse(current);
    } catch (error) {
      if (!isNicheError(error)) throw error;
      if (await confirmRetry(error.message, context)) continue;
      throw new NicheError(error.code, error.message, {
        cause: error,
        hint: `edit it again; ${where} was not changed`,
      });
    }
  }
}

/** Asks whether to edit again. Without a terminal the answer is no. */
async function confirmRetry(why: string, { stdin, stderr }: Context): Promise<boolean> {
  if (!stdin.isTTY || !stderr.isTty) return false;
  stderr.write(`niche: ${why}\nniche: edit it again? [Y/n] `);
  // The terminal echoes the line and lets the user edit it.
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
