import * as z from 'zod';

import { NicheError, messageOf } from '../errors.ts';
import { defaultMaxNarBytes, maxDocumentBytes } from '../limits.ts';
import { parsePublicKey } from '../nix/keys.ts';
import { shellWord } from '../util/shell.ts';
import { hasCredentials } from '../util/url-credentials.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { configKey } from './layout.ts';
import { parseStoredJson, readBoundedText } from './stored-json.ts';
import type { JsonFormat } from './stored-json.ts';

/** The version of `niche.json` that this release writes, and the newest that it reads. */
export const configVersion = 1;

/** The rule of {@link isCacheName}, for messages. */
export const cacheNameRule =
  '1 to 63 letters, digits, dots, dashes or underscores, the first a letter or a digit';

/** Returns whether `text` is a valid name of a cache. */
export function isCacheName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(text);
}

const publicKey = z.string().superRefine((text, context) => {
  try {
    parsePublicKey(text);
  } catch (error) {
    // The value may be a secret key, so only the parser's message may be shown.
    context.addIssue({ code: 'custom', message: messageOf(error), params: { isHidden: true } });
  }
});

const absoluteUrl = z.string().superRefine((text, context) => {
  if (hasCredentials(text)) {
    // Everyone can read this document, and nobody may read the message's value.
    const message = 'a URL must not contain a user or a password';
    context.addIssue({ code: 'custom', message, params: { isHidden: true } });
  } else if (!URL.canParse(text)) {
    context.addIssue({ code: 'custom', message: 'expected an absolute URL' });
  }
});

const upstream = z.strictObject({
  /** Where the upstream is read from: `https://…`, `http://…` or a storage URL. */
  url: absoluteUrl,
  publicKey,
});

const compression = z.strictObject({
  kind: z.enum(['zstd', 'none']),
  /** The compression level of zstd. */
  level: z.int().min(1).max(19).default(3),
});

const limits = z.strictObject({
  /** The largest NAR that the publisher accepts, in bytes. */
  maxNarBytes: z.int().positive().default(defaultMaxNarBytes),
  /** Whether a path that contains store paths outside its claimed references is rejected. */
  unclaimed: z.enum(['warn', 'reject']).default('warn'),
  /** How long a path may wait for its references until it is rejected, in days. */
  waitingDays: z.number().positive().default(7),
});

const config = z.strictObject({
  version: z.literal(configVersion),
  name: z.string().refine(isCacheName, { error: `expected ${cacheNameRule}` }),
  storeDir: z.string().regex(/^(?:\/[^/\s]+)+$/, { error: 'expected an absolute folder' }),
  publicKeys: z.array(publicKey).min(1),
  /** The URL for the `substituters` setting of readers. */
  substituter: absoluteUrl,
  /** URL of the public root. */
  storage: absoluteUrl,
  /** URL of the staging root. */
  staging: absoluteUrl,
  /** URL of the private root. */
  private: absoluteUrl,
  compression: compression.default({ kind: 'zstd', level: 3 }),
  /** `false` publishes no listings of the NARs' contents. Absent otherwise. */
  listings: z.literal(false).optional(),
  upstreams: z.array(upstream).default([]),
  /** Other keys whose signatures narinfos keep. Absent when there are none. */
  keepSignatures: z.array(publicKey).max(64).exactOptional(),
  limits: limits.default(() => limits.parse({})),
});

/** The public configuration of a cache, `niche.json`. */
export type CacheConfig = z.infer<typeof config>;
export type Compression = z.infer<typeof compression>;

const configFormat: JsonFormat<CacheConfig> = {
  code: 'malformed-config',
  schema: config,
  newestVersion: configVersion,
  maxBytes: maxDocumentBytes,
};

/**
 * Parses the text of `niche.json`.
 *
 * @param where names the document in messages
 * @throws NicheError `newer-version` when a later release wrote it; `malformed-config`, naming the
 *   field and its value
 */
export function parseConfig(text: string, where: string): CacheConfig {
  return parseStoredJson(text, where, configFormat);
}

export function formatConfig(value: CacheConfig): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/**
 * Reads the configuration of the cache whose public bucket is `bucket`.
 *
 * @throws NicheError `not-a-cache` when `niche.json` is missing; `malformed-config`, `newer-version`;
 *   `storage-…` when it cannot be read
 */
export async function readConfig(bucket: ObjectReader): Promise<CacheConfig> {
  const text = await readBoundedText(bucket, configKey, configFormat);
  if (text === null) {
    throw new NicheError(
      'not-a-cache',
      `there is no cache at ${bucket.url}: ${configKey} is missing`,
      {
        hint: `create one with: niche init ${shellWord(bucket.url)}`,
      },
    );
  }
  return parseConfig(text, `${configKey} of ${bucket.url}`);
}
