import { recipientsOfSecret, replaceSecret } from '../../core/cache/keys/edit.ts';
import type { EditableSecret } from '../../core/cache/keys/edit.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import { privateDocument, signingDocument } from '../../core/cache/secret-documents.ts';
import type {
  PrivateConfig,
  SecretKind,
  SigningConfig,
} from '../../core/cache/secret-documents.ts';
import { describeRecipient } from '../../core/secrets/recipient.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { parseCacheAddress } from '../cache/address.ts';
import type { Context } from '../process/context.ts';
import { openCacheAt } from '../cache/open.ts';

/** Which secret document of which cache. */
export interface ConfigFlags {
  readonly cacheUrl?: string;
  readonly signing: boolean;
}

/** What a secret document says. */
export type Value = PrivateConfig | SigningConfig;

/** The document that was named, and the cache that it belongs to. */
interface Opened {
  readonly cache: OpenCache;
  readonly kind: SecretKind<Value>;
  /** Where the document lies. */
  readonly root: Bucket;
}

export async function openDocument(flags: ConfigFlags, context: Context): Promise<Opened> {
  const cache = await openCacheAt(parseCacheAddress(flags.cacheUrl, [], context), context);
  return flags.signing
    ? { cache, kind: signingDocument, root: cache.private }
    : { cache, kind: privateDocument, root: cache.public };
}

/** Puts a document there, unless somebody has changed it meanwhile, and says for whom it is. */
export async function saveDocument(
  root: Bucket,
  kind: SecretKind<Value>,
  text: string,
  { stored }: Pick<EditableSecret<Value>, 'stored'>,
  context: Context,
): Promise<void> {
  await replaceSecret(root, kind.key, text, stored);
  const recipients = recipientsOfSecret({ ...stored, text }).map(describeRecipient);
  context.stderr.write(`niche: wrote ${stored.where}, for ${recipients.join(', ')}\n`);
}
