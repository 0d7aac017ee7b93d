import type * as z from 'zod';

import { NicheError, isNicheError, messageOf, quote } from '../errors.ts';
import type { NicheErrorCode } from '../errors.ts';
import type { Bucket } from '../storage/bucket.ts';
import { describeIssues } from './config.ts';
import { readText } from './objects.ts';

/** One kind of JSON that the private root holds. */
export interface JsonFormat<T> {
  /** The error code of damage. */
  readonly code: NicheErrorCode;
  readonly schema: z.ZodType<T>;
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
  bucket: Bucket,
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
  bucket: Bucket,
  key: string,
  { code, maxBytes }: Pick<JsonFormat<unknown>, 'code' | 'maxBytes'>,
): Promise<string | null> {
  try {
    return await readText(bucket, key, maxBytes);
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
 * @throws NicheError the format's code when the text is not JSON or does not match the schema
 */
export function parseStoredJson<T>(
  text: string,
  where: string,
  { code, schema }: Pick<JsonFormat<T>, 'code' | 'schema'>,
): T {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new NicheError(code, `${where} is not JSON: ${quote(messageOf(cause))}`, { cause });
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  throw new NicheError(code, `${where} is not valid: ${describeIssues(result.error, json)}`);
}
