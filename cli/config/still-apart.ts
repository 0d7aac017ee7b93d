import { recipientsOfSecret } from '../../core/cache/keys/edit.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import { clientDocument, readSecret, signingDocument } from '../../core/cache/secret-documents.ts';
import { assertSeparate } from '../../core/cache/keys/create.ts';
import type { Recipient } from '../../core/secrets/recipient.ts';
import type { ConfigFlags } from './document.ts';

export interface ApartFlags extends ConfigFlags {
  readonly unsafeShareSigningKey: boolean;
}

/**
 * Checks that `recipients` and the recipients of the other document do not overlap.
 *
 * @throws NicheError `unsafe-recipients`
 */
export async function assertStillApart(
  cache: OpenCache,
  { signing, unsafeShareSigningKey }: ApartFlags,
  recipients: readonly Recipient[],
): Promise<void> {
  if (unsafeShareSigningKey) return;
  const other = signing
    ? await readSecret(cache.public, clientDocument)
    : await readSecret(cache.private, signingDocument);
  if (!other) return;
  const others = recipientsOfSecret(other);
  if (signing) assertSeparate(others, recipients);
  else assertSeparate(recipients, others);
}
