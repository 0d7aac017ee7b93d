import { readRequiredSecret, recipientsOfSecret } from '../../core/cache/keys/edit.ts';
import { openSecret, publicKeysOf } from '../../core/cache/secret-documents.ts';
import { isNicheError } from '../../core/errors.ts';
import { describeRecipient } from '../../core/secrets/recipient.ts';
import type { Context } from '../process/context.ts';
import { keyringOf } from '../secrets/identities.ts';
import { openDocument } from './document.ts';
import type { ConfigFlags, Value } from './document.ts';

export interface ShowFlags extends ConfigFlags {
  readonly reveal: boolean;
  readonly json: boolean;
}

/** Runs `niche config show`. */
export async function showDocument(flags: ShowFlags, context: Context): Promise<void> {
  const { kind, root } = await openDocument(flags, context);
  const stored = await readRequiredSecret(root, kind);
  const recipients = recipientsOfSecret(stored).map(describeRecipient);
  const value = await openSecret(stored, kind, keyringOf(context).identities).then(
    ({ value }) => (flags.reveal ? value : withoutSecrets(value)),
    (error: unknown) => {
      if (!isNicheError(error, 'no-identity', 'identity-failed')) throw error;
      return null;
    },
  );
  if (flags.json) {
    context.stdout.write(`${JSON.stringify({ document: kind.key, recipients, value })}\n`);
    return;
  }
  context.stdout.write(
    `${stored.where}\nencrypted for:\n${recipients.map((each) => `  ${each}\n`).join('')}${
      value === null ? 'this machine cannot decrypt it\n' : `${JSON.stringify(value, null, 2)}\n`
    }`,
  );
}

/** Returns the document without its secrets, for display. */
function withoutSecrets(value: Value): object {
  if ('secretKeys' in value) return { version: value.version, publicKeys: publicKeysOf(value) };
  const { credentials, ...rest } = value;
  if (!credentials) return rest;
  const hidden = Object.entries(credentials).map(([name, each]) => [
    name,
    name === 'kind' || name === 'accessKeyId' ? each : '(hidden)',
  ]);
  // The expiry of a SAS token is not secret, and users need to know it. A stored access policy has it
  // where the token does not.
  const sas = new URLSearchParams(credentials.kind === 'azure' ? credentials.sas : undefined);
  const [expires, accessPolicy] = [sas.get('se'), sas.get('si')];
  return {
    ...rest,
    credentials: Object.fromEntries(hidden) as object,
    ...(expires === null ? {} : { expires }),
    ...(accessPolicy === null ? {} : { accessPolicy }),
  };
}
