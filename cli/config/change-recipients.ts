import { openSecretForEdit, addRecipients, removeRecipients } from '../../core/cache/keys/edit.ts';
import { NicheError } from '../../core/errors.ts';
import { printedCacheOption } from '../cache/address.ts';
import type { Context } from '../process/context.ts';
import { keyringOf } from '../secrets/identities.ts';
import { recipientsOf } from '../init/recipients.ts';
import type { RecipientFlags } from '../init/recipients.ts';
import { openDocument, saveDocument } from './document.ts';
import type { ConfigFlags, Value } from './document.ts';
import { assertStillApart } from './still-apart.ts';
import type { ApartFlags } from './still-apart.ts';

export type RecipientsFlags = ApartFlags & RecipientFlags;

/** Runs `niche config add-recipient` and `niche config remove-recipient`. */
export async function changeRecipients(
  how: 'add' | 'remove',
  flags: RecipientsFlags,
  context: Context,
): Promise<void> {
  const { cache, kind, root } = await openDocument(flags, context);
  const recipients = await recipientsOf(flags, cache.config.name);
  if (recipients.length === 0) {
    throw new NicheError('usage', 'no recipient given', {
      hint: 'pass --age, --pgp, --aws-kms, --gcp-kms or --azure-kv',
    });
  }
  const keyring = keyringOf(context);
  if (how === 'add') await assertStillApart(cache, flags, recipients);
  const secret = await openSecretForEdit(root, kind, keyring);
  const change = how === 'add' ? addRecipients : removeRecipients;
  const text = await change(secret, recipients, keyring);
  await saveDocument(root, kind, text, secret, context);
  if (how === 'remove') context.stderr.write(`niche: ${describeNextSteps(flags, secret.value)}\n`);
}

/** Returns what to do next: a removed recipient may have kept a copy of the document. */
function describeNextSteps({ signing, cacheUrl }: ConfigFlags, value: Value): string {
  const u = printedCacheOption(cacheUrl);
  if (signing) {
    return `warning: removed recipients may have kept the signing key\nhint: run niche key rotate${u}, then niche resign${u}, then niche key retire${u} NAME`;
  }
  if ('credentials' in value && value.credentials !== undefined) {
    return `warning: removed recipients may have kept the storage credentials\nhint: create new credentials, enter them with niche config edit${u}, and delete the old ones`;
  }
  return 'the document has no credentials to replace';
}
