import { once } from 'node:events';
import { NicheError, quote } from '../../../core/errors.ts';
import { throwIfAborted } from '../../../core/util/abort.ts';
import type { Bucket, RequestOptions, StoredObject } from '../../../core/storage/bucket.ts';
import type { BucketOperation } from './memory-bucket.ts';

/**
 * `hang` ends only when the caller's signal is aborted. `broken` is for `get`: the body fails after
 * half its bytes.
 */
type Fault = 'denied' | 'unavailable' | 'full' | 'integrity' | 'hang' | 'broken';

/** Chooses the fault of an operation. The key of a list is its prefix; called for each deleted key. */
export type FaultChooser = (operation: BucketOperation, key: string) => Fault | undefined;

/** Returns `bucket` with the faults of `choose`, which happen before an operation has any effect. */
export function faultyBucket(bucket: Bucket, choose: FaultChooser): Bucket {
  async function pass(
    operation: BucketOperation,
    key: string,
    options: RequestOptions | undefined,
  ): Promise<Fault | undefined> {
    const fault = choose(operation, key);
    if (fault === 'hang') await hang(options?.signal);
    if (fault === undefined || fault === 'broken' || fault === 'hang') return fault;
    throw new NicheError(`storage-${fault}`, `injected: ${operation} of ${quote(key)}`);
  }

  return {
    url: bucket.url,
    capabilities: bucket.capabilities,
    async head(key, options) {
      await pass('head', key, options);
      return bucket.head(key, options);
    },
    async get(key, options) {
      const fault = await pass('get', key, options);
      const found = await bucket.get(key, options);
      return fault === 'broken' && found !== null ? breakOff(found) : found;
    },
    async put(key, body, options) {
      await pass('put', key, options);
      return bucket.put(key, body, options);
    },
    async replace(key, body, etag, options) {
      await pass('replace', key, options);
      return bucket.replace(key, body, etag, options);
    },
    async upload(key, options) {
      await pass('upload', key, options);
      const upload = await bucket.upload(key, options);
      return {
        async write(chunk) {
          await pass('write', key, options);
          await upload.write(chunk);
        },
        async commit(commit) {
          await pass('commit', key, options);
          return upload.commit(commit);
        },
        async abort() {
          await pass('abort', key, undefined);
          await upload.abort();
        },
      };
    },
    async *list(prefix, options) {
      await pass('list', prefix, options);
      yield* bucket.list(prefix, options);
    },
    async delete(keys, options) {
      for (const key of keys) await pass('delete', key, options);
      await bucket.delete(keys, options);
    },
    ...(bucket.sweepUploads === undefined
      ? {}
      : {
          sweepUploads: (prefix, olderThan) =>
            bucket.sweepUploads?.(prefix, olderThan) ?? Promise.resolve(0),
        }),
  };
}

async function hang(signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return new Promise<void>(() => undefined);
  if (!signal.aborted) await once(signal, 'abort');
  throwIfAborted(signal, 'an operation that hangs');
}

function breakOff({ info, body }: StoredObject): StoredObject {
  async function* half(): AsyncGenerator<Uint8Array, void, undefined> {
    let left = Math.floor((info.size ?? 0) / 2);
    for await (const chunk of body) {
      if (left === 0) break;
      yield chunk.subarray(0, left);
      left -= Math.min(left, chunk.length);
    }
    throw new NicheError('storage-unavailable', `injected: the body of ${info.key} breaks off`);
  }
  return { info, body: half() };
}
