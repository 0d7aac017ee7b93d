import { openSecretForEdit, rewriteSecret } from '../../core/cache/keys/edit.ts';
import { parseSecret } from '../../core/cache/secret-documents.ts';
import type { SecretKind } from '../../core/cache/secret-documents.ts';
import { NicheError } from '../../core/errors.ts';
import type { Context } from '../process/context.ts';
import { keyringOf } from '../secrets/identities.ts';
import { openDocument, saveDocument } from './document.ts';
import type { ConfigFlags, Value } from './document.ts';
import { editValid } from './edit-valid.ts';

/** Runs `niche config edit`. */
export async function editDocument(flags: ConfigFlags, context: Context): Promise<void> {
  const { kind, root } = await openDocument(flags, context);
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
