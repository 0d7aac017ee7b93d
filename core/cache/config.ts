import * as z from 'zod';

import { NicheError, messageOf, quote } from '../errors.ts';
import { defaultMaxNarBytes, maxDocumentBytes } from '../limits.ts';
import { parsePublicKey } from '../nix/keys.ts';
import { shellWord } from '../util/shell.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { configKey } from './layout.ts';
import { readText } from './objects.ts';

/** The version of `niche.json` that this release writes, and the newest that it reads. */
export const configVersion = 1;

/** What {@link isCacheName} takes, in words. */
export const cacheNameRule =
  '1 to 63 letters, digits, dots, dashes or underscores, the first a letter or a digit';

/** Whether a cache may be called so. */
export function isCacheName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(text);
}

const publicKey = z.string().superRefine((text, context) => {
  try {
    parsePublicKey(text);
  } catch (error) {
    // What came may be the secret half: the message says what of it may be shown.
    context.addIssue({ code: 'custom', message: messageOf(error), params: { isHidden: true } });
  }
});

const absoluteUrl = z
  .string()
  .refine((text) => URL.canParse(text), { error: 'expected an absolute URL' });

const upstream = z.strictObject({
  /** Where the upstream is read: `https://…`, `http://…` or a storage URL. */
  url: absoluteUrl,
  publicKey,
});

const compression = z.strictObject({
  kind: z.enum(['zstd', 'none']),
  /** zstd's level. */
  level: z.int().min(1).max(19).default(3),
});

const limits = z.strictObject({
  /** The largest NAR that is published, in bytes. */
  maxNarBytes: z.int().positive().default(defaultMaxNarBytes),
  /** What becomes of a path that mentions store paths which it does not claim as references. */
  unclaimed: z.enum(['warn', 'reject']).default('warn'),
  /** How long a path waits for its references before it is rejected, in days. */
  waitingDays: z.number().positive().default(7),
});

const config = z.strictObject({
  version: z.literal(configVersion),
  name: z.string().refine(isCacheName, { error: `expected ${cacheNameRule}` }),
  storeDir: z.string().regex(/^(?:\/[^/\s]+)+$/, { error: 'expected an absolute folder' }),
  publicKeys: z.array(publicKey).min(1),
  /** The URL that readers put into `substituters`. */
  substituter: absoluteUrl,
  /** The public root. */
  storage: absoluteUrl,
  /** The private root. */
  private: absoluteUrl,
  compression: compression.default({ kind: 'zstd', level: 3 }),
  /** `false` publishes no listings of the NARs' contents. Absent otherwise. */
  listings: z.literal(false).optional(),
  upstreams: z.array(upstream).default([]),
  limits: limits.default(() => limits.parse({})),
});

/** The public configuration of a cache, `niche.json`. */
export type CacheConfig = z.infer<typeof config>;
export type Compression = z.infer<typeof compression>;

/**
 * Reads `niche.json`'s text.
 *
 * @param where names the document in messages
 * @throws NicheError `newer-version` when a later release wrote it, `malformed-config` when it is
 *   damaged: the message names the field and its value
 */
export function parseConfig(text: string, where: string): CacheConfig {
  const document = parseJson(text, where);
  const version = z.looseObject({ version: z.number() }).safeParse(document);
  if (version.success && version.data.version > configVersion) {
    throw new NicheError(
      'newer-version',
      `${where} has version ${version.data.version}; this niche reads up to version ${configVersion}`,
      { hint: 'upgrade niche on this machine' },
    );
  }
  const result = config.safeParse(document);
  if (!result.success) {
    throw new NicheError(
      'malformed-config',
      `${where} is not valid: ${describeIssues(result.error, document)}`,
    );
  }
  return result.data;
}

export function formatConfig(value: CacheConfig): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/**
 * Reads the configuration of the cache whose public root is `bucket`.
 *
 * @throws NicheError `not-a-cache` when there is none, and what {@link parseConfig} throws
 */
export async function readConfig(bucket: ObjectReader): Promise<CacheConfig> {
  const text = await readText(bucket, configKey, maxDocumentBytes);
  if (text === null) {
    throw new NicheError(
      'not-a-cache',
      `there is no cache at ${bucket.url}: ${configKey} is missing`,
      {
        hint: `make one with: niche init ${shellWord(bucket.url)}`,
      },
    );
  }
  return parseConfig(text, `${configKey} of ${bucket.url}`);
}

function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new NicheError('malformed-config', `${where} is not JSON: ${quote(messageOf(cause))}`, {
      cause,
    });
  }
}

/** What zod found, one clause an issue, each with the field and the value that came, if it may be shown. */
export function describeIssues(error: z.ZodError, document: unknown): string {
  return error.issues
    .slice(0, 5)
    .map((issue) => {
      const field = issue.path.map(String).join('.') || 'the document';
      // zod's own message has the names as they came, however long and whatever is in them.
      if (issue.code === 'unrecognized_keys') {
        return `${field}: unknown fields ${issue.keys.slice(0, 5).map(quote).join(', ')}`;
      }
      const value = valueAt(document, issue.path);
      if (value === undefined) return `${field} is missing`;
      const isHidden = issue.code === 'custom' && issue.params?.['isHidden'] === true;
      return `${field}: ${lowerFirst(issue.message)}${isHidden ? '' : ` (got ${shown(value)})`}`;
    })
    .join('; ');
}

function shown(value: unknown): string {
  if (typeof value === 'string') return quote(value);
  const json = JSON.stringify(value);
  return json.length > maxShownCharacters ? `${json.slice(0, maxShownCharacters)}…` : json;
}

/** Of a value that is no string, in a message. */
const maxShownCharacters = 80;

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

function valueAt(document: unknown, path: readonly PropertyKey[]): unknown {
  let value = document;
  for (const step of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[step];
  }
  return value;
}
