import { recipientsOfSecret, replaceSecret } from '../../core/cache/keys/edit.ts';
import type { EditableSecret } from '../../core/cache/keys/edit.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import { clientDocument, signingDocument } from '../../core/cache/secret-documents.ts';
import type { ClientConfig, SecretKind, SigningConfig } from '../../core/cache/secret-documents.ts';
import { describeRecipient } from '../../core/secrets/recipient.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { parseCacheAddress } from '../cache/address.ts';
import type { Context } from '../process/context.ts';
import { openAsAdministrator } from '../cache/open.ts';

/** Selects a secret document of a cache. */
export interface ConfigFlags {
  readonly cacheUrl?: string;
  readonly signing: boolean;
}

/** The contents of a secret document. */
export type Value = ClientConfig | SigningConfig;

/** A secret document and its cache. */
interface Opened {
  readonly cache: OpenCache;
  readonly kind: SecretKind<Value>;
  /** The root that stores the document. */
  readonly root: Bucket;
}

/** Opens the cache, and returns the kind and the root of the selected document. */
export async function openDocument(flags: ConfigFlags, context: Context): Promise<Opened> {
  const cache = await openAsAdministrator(parseCacheAddress(flags.cacheUrl, [], context), context);
  return flags.signing
    ? { cache, kind: signingDocument, root: cache.private }
    : { cache, kind: clientDocument, root: cache.public };
}

/**
 * Stores a document and prints its recipients.
 *
 * @throws NicheError `changed-meanwhile` when the stored document is not `stored` any more
 */
export async function saveDocument(
  root: Bucket,
  kind: SecretKind<Value>,
  text: string,
  { stored }: Pick<EditableSecret<Value>, 'stored'>,
  context: Context,
): Promise<void> {
  await replaceSecret(root, kind.key, text, stored);
  const recipients = recipientsOfSecret({ ...stored, text }).map(describeRecipient);
  context.stderr.write(`niche: wrote ${stored.where}, encrypted for ${recipients.join(', ')}\n`);
}
