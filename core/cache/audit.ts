import { randomBytes } from 'node:crypto';

import { mapConcurrent } from '../util/concurrency.ts';
import { NicheError } from '../errors.ts';
import type { PathInfo } from '../nix/path-info.ts';
import type { Signer } from '../signing/signer.ts';
import type { Bucket } from '../storage/bucket.ts';
import { auditPrefix } from './layout.ts';
import { createObject, readText } from './objects.ts';

/**
 * Who staged what, and which key signed it. It is written before the narinfo, so every visible
 * signature has its record; one without a narinfo is an attempt.
 */
export interface AuditRecord {
  readonly version: 1;
  /** ISO 8601. */
  readonly at: string;
  readonly path: string;
  readonly narHash: string;
  readonly narSize: number;
  readonly references: readonly string[];
  /** Store paths that the contents mention and the client did not claim. */
  readonly unclaimed: { readonly count: number; readonly first: readonly string[] };
  readonly signatures: readonly string[];
  /** Who made each of `signatures`, in their order. */
  readonly signers: readonly AuditedSigner[];
  readonly upload: string;
  /** Null where the publisher was told by nobody: a worker that lists what is staged. */
  readonly origin: Origin | null;
  /** The release that checked and signed. */
  readonly publisher: string;
}

export interface AuditedSigner {
  /** `<key name>:<base64>`. */
  readonly publicKey: string;
  /** The key as its KMS names it; absent where the publisher held the key itself. */
  readonly keyId?: string;
  /** The KMS's request, as its own log has it. */
  readonly requestId?: string;
}

/** How the publisher came to know of a batch, and who the storage says staged it. */
export interface Origin {
  /** `event`: the storage told of the upload; `sweep`: found later, when who staged it is not known. */
  readonly via: 'event' | 'sweep';
  /** Who uploaded the manifest, as the storage names its callers. */
  readonly principal?: string | undefined;
  /** From where. */
  readonly sourceAddress?: string | undefined;
  /** When, ISO 8601. */
  readonly at?: string | undefined;
}

export function auditedSigner(signer: Signer, requestId: string | undefined): AuditedSigner {
  const { publicKey, keyId } = signer;
  return {
    publicKey,
    ...(keyId === undefined ? {} : { keyId }),
    ...(requestId === undefined ? {} : { requestId }),
  };
}

/**
 * Stores the records, a line each, as one object under a name that nothing else has.
 *
 * @param records at least one; the object has the time of the first
 */
export async function writeAuditRecords(
  bucket: Bucket,
  records: readonly AuditRecord[],
): Promise<void> {
  const [day = '', time = ''] = (records[0]?.at ?? '').split('T');
  const id = randomBytes(8).toString('hex');
  const key = `${auditPrefix}${day.replaceAll('-', '/')}/${time.replaceAll(':', '-')}-${id}.jsonl`;
  await createObject(bucket, key, records.map((record) => `${JSON.stringify(record)}\n`).join(''));
}

/** Objects of the audit that are read at once. */
const objectsAtOnce = 16;

/**
 * The records, oldest first.
 *
 * @param since only those of this time and later; then nothing of an earlier day is listed
 * @throws NicheError `malformed-audit` for an object that is none, and what the bucket throws
 */
export async function* readAuditRecords(bucket: Bucket, since?: Date): AsyncIterable<AuditRecord> {
  const from = since?.toISOString() ?? '';
  let keys: string[] = [];
  async function* flush(): AsyncIterable<AuditRecord> {
    const texts = await mapConcurrent(keys, objectsAtOnce, (key) => readText(bucket, key));
    for (const [index, text] of texts.entries()) {
      for (const record of parseAudit(text ?? '', keys[index] ?? '')) {
        if (record.at >= from) yield record;
      }
    }
    keys = [];
  }
  for (const prefix of since === undefined ? [auditPrefix] : dayPrefixes(since)) {
    for await (const { key } of bucket.list(prefix)) {
      keys.push(key);
      if (keys.length >= 4 * objectsAtOnce) yield* flush();
    }
  }
  yield* flush();
}

function* parseAudit(text: string, key: string): Iterable<AuditRecord> {
  for (const line of text.split('\n')) {
    if (line === '') continue;
    try {
      yield JSON.parse(line) as AuditRecord;
    } catch (cause) {
      throw new NicheError('malformed-audit', `the audit record ${key} is not JSON`, { cause });
    }
  }
}

const dayMs = 24 * 60 * 60 * 1000;

/** The folders of the days from `since` until today, and until tomorrow for clocks that differ. */
function* dayPrefixes(since: Date): Iterable<string> {
  for (let time = since.getTime(); time < Date.now() + 2 * dayMs; time += dayMs) {
    const day = new Date(time).toISOString().slice(0, 10);
    yield `${auditPrefix}${day.replaceAll('-', '/')}/`;
  }
}

/** The record's part that comes from the path itself. */
export function auditedPath(
  info: PathInfo,
): Pick<AuditRecord, 'path' | 'narHash' | 'narSize' | 'references'> {
  const { path, narHash, narSize, references } = info;
  return { path, narHash, narSize, references };
}
