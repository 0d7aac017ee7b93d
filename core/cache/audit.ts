import { randomBytes } from 'node:crypto';
import * as z from 'zod';

import { NicheError, isNicheError } from '../errors.ts';
import { maxDocumentBytes } from '../limits.ts';
import { parsePublicKey } from '../nix/keys.ts';
import type { PathInfo } from '../nix/path-info.ts';
import type { Realisation } from '../nix/realisation.ts';
import { storeHash } from '../nix/store-path.ts';
import type { Signer } from '../signing/signer.ts';
import type { Bucket } from '../storage/bucket.ts';
import { splitIntoChunks } from '../util/chunk.ts';
import { mapConcurrent } from '../util/concurrency.ts';
import { auditPrefix } from './layout.ts';
import { createObject } from './objects.ts';
import { parseStoredJson, readBoundedText } from './stored-json.ts';
import type { JsonFormat } from './stored-json.ts';

/**
 * The signatures that one path or realisation got at once. It is written before the narinfo, so every
 * visible signature has a record. A record without a narinfo is from a publisher that died in between.
 */
export type AuditRecord = PathAuditRecord | RealisationAuditRecord;

export interface PathAuditRecord extends SignatureRecord {
  readonly narHash: string;
  readonly narSize: number;
  readonly references: readonly string[];
  /** Store paths that the contents mention and the client did not claim as references. */
  readonly unclaimed: { readonly count: number; readonly first: readonly string[] };
  readonly realisation?: undefined;
  /** Only of a path that was in the cache without its signature, and that a command has signed. */
  readonly provenance?: Provenance | undefined;
}

/** What showed the origin of a path to the command that signed it. */
export type Provenance =
  | { readonly by: 'content-address' }
  /** A signature of this key, which the administrator trusts. */
  | { readonly by: 'signature'; readonly publicKey: string }
  /** Only the word of the administrator. */
  | { readonly by: 'nothing' };

export interface RealisationAuditRecord extends SignatureRecord {
  /** The derivation and the output of which `path` is the result. */
  readonly realisation: Pick<Realisation, 'drvHash' | 'drvPath' | 'output'>;
}

interface SignatureRecord {
  readonly version: 1;
  /** When the path was signed, ISO 8601. */
  readonly at: string;
  readonly path: string;
  readonly signatures: readonly string[];
  /** The signer of each of `signatures`, in the same order. */
  readonly signers: readonly AuditedSigner[];
  readonly upload: string;
  /**
   * Null when no event or sweep led to the batch, as in a worker that lists staged batches, and when
   * the event was about another object under the manifest's key.
   */
  readonly origin: Origin | null;
  /** The release that checked and signed. */
  readonly publisher: string;
}

export interface AuditedSigner {
  /** `<key name>:<base64>`. */
  readonly publicKey: string;
  /** The name of the key in its KMS. Absent when the publisher held the key itself. */
  readonly keyId?: string;
  /** The id of the request in the log of the KMS. */
  readonly requestId?: string;
}

/** How the publisher learned of a batch, and the uploader that the storage reported. */
export interface Origin {
  /** `event`: an event of the storage; `sweep`: found later, when the uploader is not known. */
  readonly via: 'event' | 'sweep';
  /** The uploader of the manifest, in the storage's own terms. */
  readonly principal?: string | undefined;
  /** The uploader's network address. */
  readonly sourceAddress?: string | undefined;
  /** The time of the upload, ISO 8601. */
  readonly at?: string | undefined;
}

/** An origin as an event reports it, before the publisher has read the manifest. */
export interface ReportedOrigin extends Origin {
  /** The etag of the manifest that the event is about; a generation with Google. */
  readonly etag?: string | undefined;
}

/**
 * Returns the origin of a manifest. An event counts only for the very object that it reports: someone
 * else may have replaced that since.
 *
 * @param etag that of the manifest that was read
 */
export function confirmOrigin(reported: ReportedOrigin | null, etag: string): Origin | null {
  if (reported === null) return null;
  const { etag: reportedEtag, ...origin } = reported;
  const withoutQuotes = (text: string): string => text.replaceAll('"', '').toLowerCase();
  const isConfirmed =
    origin.via === 'sweep' ||
    (reportedEtag !== undefined && withoutQuotes(reportedEtag) === withoutQuotes(etag));
  return isConfirmed ? origin : null;
}

const text = z.string();

/** Fields that it does not define are kept, so that `niche audit --json` prints all there is. */
const signatureFields = z.looseObject({
  version: z.literal(1),
  at: z.iso.datetime(),
  path: text.refine(doesNotThrow(storeHash), { error: 'expected a store path' }),
  signatures: z.array(text),
  signers: z.array(
    z.looseObject({
      publicKey: text.refine(doesNotThrow(parsePublicKey), { error: 'expected a public key' }),
      keyId: text.exactOptional(),
      requestId: text.exactOptional(),
    }),
  ),
  upload: text,
  origin: z
    .looseObject({
      via: z.enum(['event', 'sweep']),
      principal: text.optional(),
      sourceAddress: text.optional(),
      at: text.optional(),
    })
    .nullable(),
  publisher: text,
});

const pathRecord = signatureFields.extend({
  narHash: text,
  narSize: z.int().nonnegative(),
  references: z.array(text),
  unclaimed: z.looseObject({ count: z.int().nonnegative(), first: z.array(text) }),
  provenance: z
    .discriminatedUnion('by', [
      z.looseObject({ by: z.literal('content-address') }),
      z.looseObject({ by: z.literal('signature'), publicKey: text }),
      z.looseObject({ by: z.literal('nothing') }),
    ])
    .optional(),
});

const realisationRecord = signatureFields.extend({
  realisation: z.looseObject({ drvHash: text, drvPath: text, output: text }),
});

const auditFormat: JsonFormat<AuditRecord> = {
  code: 'malformed-audit',
  schema: z.looseObject({}).transform((document, context): AuditRecord => {
    const schema = 'realisation' in document ? realisationRecord : pathRecord;
    const { data, error } = schema.safeParse(document);
    if (data) return data;
    for (const { path, message } of error.issues) {
      context.addIssue({ code: 'custom', path, message });
    }
    return z.NEVER;
  }),
  maxBytes: maxDocumentBytes,
};

function doesNotThrow(parse: (text: string) => unknown): (text: string) => boolean {
  return (value) => {
    try {
      parse(value);
      return true;
    } catch {
      return false;
    }
  };
}

/** Returns the fields of a record that come from the signer. */
export function auditedSigner(signer: Signer, requestId: string | undefined): AuditedSigner {
  const { publicKey, keyId } = signer;
  return {
    publicKey,
    ...(keyId === undefined ? {} : { keyId }),
    ...(requestId === undefined ? {} : { requestId }),
  };
}

/** Returns the fields of a record that come from the path. */
export function auditedPath(
  info: PathInfo,
): Pick<PathAuditRecord, 'path' | 'narHash' | 'narSize' | 'references'> {
  const { path, narHash, narSize, references } = info;
  return { path, narHash, narSize, references };
}

/**
 * Writes records as JSON Lines, under keys that no other call uses. Splits them into several objects
 * where one would be larger than readers accept.
 */
export async function writeAuditRecords(
  bucket: Bucket,
  records: readonly AuditRecord[],
): Promise<void> {
  const [day = '', time = ''] = (records[0]?.at ?? '').split('T');
  const lines = records.map((record) => Buffer.from(`${JSON.stringify(record)}\n`));
  const chunks = splitIntoChunks(lines, {
    maxItems: Infinity,
    maxSize: auditFormat.maxBytes,
    sizeOf: ({ length }) => length,
  });
  for (const chunk of chunks) {
    const id = randomBytes(8).toString('hex');
    const key = `${auditPrefix}${day.replaceAll('-', '/')}/${time.replaceAll(':', '-')}-${id}.jsonl`;
    await createObject(bucket, key, Buffer.concat(chunk));
  }
}

/** What an object of the audit log holds. */
export interface AuditObject {
  readonly records: readonly AuditRecord[];
  /** An error with code `malformed-audit` for each damaged line, or for the whole object. */
  readonly damage: readonly NicheError[];
}

/**
 * Reads an object of the audit log. Damage in one line does not hide the others.
 *
 * @throws NicheError `storage-…` when it cannot be read
 */
export async function readAuditObject(bucket: Bucket, key: string): Promise<AuditObject> {
  const records: AuditRecord[] = [];
  const damage: NicheError[] = [];
  try {
    const object = await readBoundedText(bucket, key, auditFormat);
    for (const [index, line] of (object ?? '').split('\n').entries()) {
      if (line === '') continue;
      try {
        records.push(parseStoredJson(line, `line ${index + 1} of ${key}`, auditFormat));
      } catch (error) {
        damage.push(asDamage(error));
      }
    }
  } catch (error) {
    damage.push(asDamage(error));
  }
  return { records, damage };
}

function asDamage(error: unknown): NicheError {
  if (isNicheError(error, 'malformed-audit')) return error;
  throw error;
}

/** Objects of the audit log that are read at once. */
const readsAtOnce = 16;

/**
 * Reads the audit log, oldest record first.
 *
 * @param since skips older records, and does not list earlier days
 * @throws NicheError `malformed-audit` once all other records are read, if some are damaged;
 *   `storage-…` when the log cannot be read
 */
export async function* readAuditRecords(bucket: Bucket, since?: Date): AsyncIterable<AuditRecord> {
  const from = since?.toISOString() ?? '';
  const damage: NicheError[] = [];
  for await (const keys of listAuditKeys(bucket, since)) {
    const objects = await mapConcurrent(keys, readsAtOnce, (key) => readAuditObject(bucket, key));
    for (const object of objects) {
      damage.push(...object.damage);
      for (const record of object.records) if (record.at >= from) yield record;
    }
  }
  const [first] = damage;
  if (!first) return;
  if (damage.length === 1) throw first;
  throw new NicheError(
    'malformed-audit',
    `${damage.length} records of the audit log are damaged, the first: ${first.message}`,
    { cause: first },
  );
}

/** Lists the keys of the audit log in groups, so that few objects are in memory at once. */
async function* listAuditKeys(bucket: Bucket, since?: Date): AsyncIterable<string[]> {
  let keys: string[] = [];
  for (const prefix of since === undefined ? [auditPrefix] : dayPrefixes(since)) {
    for await (const { key } of bucket.list(prefix)) {
      keys.push(key);
      if (keys.length < 4 * readsAtOnce) continue;
      yield keys;
      keys = [];
    }
  }
  if (keys.length > 0) yield keys;
}

const dayMs = 24 * 60 * 60 * 1000;

/** Yields the prefixes of the days from `since` until tomorrow, since clocks differ. */
function* dayPrefixes(since: Date): Iterable<string> {
  for (let time = since.getTime(); time < Date.now() + 2 * dayMs; time += dayMs) {
    const day = new Date(time).toISOString().slice(0, 10);
    yield `${auditPrefix}${day.replaceAll('-', '/')}/`;
  }
}
