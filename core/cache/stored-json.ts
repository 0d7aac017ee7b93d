import * as z from 'zod';

import { NicheError, isNicheError, messageOf, quote } from '../errors.ts';
import type { NicheErrorCode } from '../errors.ts';
import { describeFields } from '../secrets/metadata.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { parseJson } from '../util/json.ts';
import { readObjectWithInfo } from './objects.ts';

/** One kind of JSON document that a cache stores. */
export interface JsonFormat<T> {
  /** The error code of damage. */
  readonly code: NicheErrorCode;
  readonly schema: z.ZodType<T>;
  /** The newest version that this release reads. Absent: a later version counts as damage. */
  readonly newestVersion?: number;
  /** Whether values may be secret, so that no message may contain one. */
  readonly isSecret?: boolean;
  /** The largest object that is read, in bytes. */
  readonly maxBytes: number;
}

/**
 * Reads and checks a JSON object.
 *
 * @returns null when it is missing
 * @throws NicheError the format's code when the object is too large, not JSON, or does not match the
 *   schema; `storage-…` when it cannot be read
 */
export async function readStoredJson<T>(
  bucket: ObjectReader,
  key: string,
  format: JsonFormat<T>,
): Promise<T | null> {
  const text = await readBoundedText(bucket, key, format);
  return text === null ? null : parseStoredJson(text, key, format);
}

/**
 * Reads an object as text.
 *
 * @returns null when it is missing
 * @throws NicheError the format's code when it is larger than the format allows; `storage-…` when it
 *   cannot be read
 */
export async function readBoundedText(
  bucket: ObjectReader,
  key: string,
  format: Pick<JsonFormat<unknown>, 'code' | 'maxBytes'>,
): Promise<string | null> {
  return (await readBoundedObject(bucket, key, format))?.text ?? null;
}

/** Does the same as {@link readBoundedText}, and returns the object's etag too. */
export async function readBoundedObject(
  bucket: ObjectReader,
  key: string,
  { code, maxBytes }: Pick<JsonFormat<unknown>, 'code' | 'maxBytes'>,
): Promise<{ readonly text: string; readonly etag: string } | null> {
  try {
    const found = await readObjectWithInfo(bucket, key, maxBytes);
    return found && { text: found.body.toString('utf8'), etag: found.info.etag };
  } catch (error) {
    if (isNicheError(error, 'oversized'))
      throw new NicheError(code, error.message, { cause: error });
    throw error;
  }
}

/**
 * Parses and checks JSON text.
 *
 * @param where identifies the text in messages
 * @throws NicheError the format's code when the text is not JSON or does not match the schema;
 *   `newer-version`
 */
export function parseStoredJson<T>(text: string, where: string, format: JsonFormat<T>): T {
  let document: unknown;
  try {
    document = parseJson(text);
  } catch (cause) {
    throw new NicheError(format.code, `${where} is not JSON: ${quote(messageOf(cause))}`, {
      cause,
    });
  }
  return checkDocument(document, where, format);
}

/**
 * Checks a parsed document.
 *
 * @param where identifies the document in messages
 * @throws NicheError the format's code when it does not match the schema; `newer-version`
 */
export function checkDocument<T>(document: unknown, where: string, format: JsonFormat<T>): T {
  const { code, schema, newestVersion, isSecret = false } = format;
  if (newestVersion !== undefined) assertVersion(document, where, newestVersion);
  const result = schema.safeParse(document);
  if (result.success) return result.data;
  const issues = isSecret ? describeFields(result.error) : describeIssues(result.error, document);
  throw new NicheError(code, `${where} is not valid: ${issues}`);
}

const versioned = z.object({ version: z.number() });

/** @throws NicheError `newer-version` when a later release wrote the document */
function assertVersion(document: unknown, where: string, newest: number): void {
  const version = versioned.safeParse(document).data?.version ?? newest;
  if (version <= newest) return;
  throw new NicheError(
    'newer-version',
    `${where} has version ${version}; this niche reads up to version ${newest}`,
    { hint: 'upgrade niche' },
  );
}

/** Describes the issues that zod found, each with its field and, unless it may be secret, its value. */
export function describeIssues(error: z.ZodError, document: unknown): string {
  return error.issues
    .slice(0, 5)
    .map((issue) => {
      const field = issue.path.map(String).join('.') || 'the document';
      // zod's own message contains the unknown names unescaped and at full length.
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

/** Longest JSON of a value in a message, in characters. */
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
