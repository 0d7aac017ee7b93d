import { createHash } from 'node:crypto';
import { NicheError, quote } from '../../../core/errors.ts';
import { throwIfAborted } from '../../../core/util/abort.ts';
import type {
  Bucket,
  BucketCapabilities,
  NewObject,
  ListedObject,
  ObjectOptions,
  PutOutcome,
  RequestOptions,
  Upload,
} from '../../../core/storage/bucket.ts';
import { assertKey, assertPrefix } from '../../../core/storage/keys.ts';
import { clipRange } from '../../../core/storage/range.ts';

/** The operations of a bucket; `write`, `commit` and `abort` belong to uploads. */
export type BucketOperation =
  'head' | 'get' | 'put' | 'replace' | 'upload' | 'write' | 'commit' | 'abort' | 'list' | 'delete';

interface MemoryObject {
  readonly bytes: Uint8Array;
  readonly modified: Date;
  readonly etag: string;
  readonly contentType: string | undefined;
  readonly cacheControl: string | undefined;
}

/** The contents. Several buckets may share them, each as the view of one process. */
export interface MemoryStore {
  readonly objects: Map<string, MemoryObject>;
  /** The chunks of unfinished uploads, by their tokens. */
  readonly uploads: Map<string, Uint8Array[]>;
  writes: number;
}

/** Called around every operation. The key of a list is its prefix; one call for each deleted key. */
export interface BucketHooks {
  /** Awaited before the operation has any effect. The operation throws its error. */
  readonly before?: ((operation: BucketOperation, key: string) => unknown) | undefined;
  /** Awaited after the effect, before the operation returns. */
  readonly after?: ((operation: BucketOperation, key: string) => unknown) | undefined;
}

interface MemoryBucketOptions extends BucketHooks {
  /** @default a new store */
  readonly store?: MemoryStore | undefined;
  /** @default memory:///bucket */
  readonly url?: string | undefined;
  /** @default both are conditional */
  readonly capabilities?: BucketCapabilities | undefined;
  /** Whether uploads can be resumed. @default false */
  readonly resumable?: boolean | undefined;
  /** Whether it has `createInOrder`. @default false */
  readonly createsInOrder?: boolean | undefined;
  /** The clock for `modified`. @default the real clock */
  readonly now?: (() => Date) | undefined;
  /** The size of a body's chunks, in bytes. @default 65536 */
  readonly chunkBytes?: number | undefined;
  /** Objects that one step of a listing returns: it sees later changes after them. @default Infinity */
  readonly pageSize?: number | undefined;
}

export function memoryStore(): MemoryStore {
  return { objects: new Map(), uploads: new Map(), writes: 0 };
}

/**
 * A bucket in memory. Each operation takes effect in one step, between its hooks, so that a
 * scheduler in `before` decides the order of everything that several of them do to one store.
 */
export function memoryBucket(options: MemoryBucketOptions = {}): Bucket {
  const store = options.store ?? memoryStore();
  const url = options.url ?? 'memory:///bucket';
  const chunkBytes = options.chunkBytes ?? 65_536;
  const pageSize = options.pageSize ?? Infinity;

  async function step<Result>(
    operation: BucketOperation,
    key: string,
    signal: AbortSignal | undefined,
    effect: () => Result,
  ): Promise<Result> {
    const throwIfEnded = (): void => {
      if (signal?.aborted === true)
        throwIfAborted(signal, `the ${operation} of ${quote(key)} in ${url}`);
    };
    throwIfEnded();
    await options.before?.(operation, key);
    throwIfEnded();
    const result = effect();
    await options.after?.(operation, key);
    return result;
  }

  function storeObject(
    key: string,
    bytes: Uint8Array,
    ifAbsent: boolean | undefined,
    { contentType, cacheControl }: ObjectOptions,
  ): PutOutcome {
    if (ifAbsent === true && store.objects.has(key)) return 'exists';
    store.writes += 1;
    store.objects.set(key, {
      bytes,
      modified: options.now?.() ?? new Date(),
      etag: `"${store.writes}"`,
      contentType,
      cacheControl,
    });
    return 'created';
  }

  function writerOf(key: string, token: string, request: ObjectOptions): Upload {
    const chunksOf = (): Uint8Array[] => {
      const chunks = store.uploads.get(token);
      if (chunks) return chunks;
      throw new NicheError('internal', `the upload of ${quote(key)} has ended`);
    };
    return {
      token: options.resumable === true ? token : undefined,
      async write(chunk) {
        chunksOf();
        const bytes = new Uint8Array(chunk);
        await step('write', key, request.signal, () => chunksOf().push(bytes));
      },
      async commit(commit) {
        const chunks = chunksOf();
        store.uploads.delete(token);
        return step('commit', key, request.signal, () =>
          storeObject(key, Buffer.concat(chunks), commit?.ifAbsent, request),
        );
      },
      async abort() {
        store.uploads.delete(token);
        await step('abort', key, undefined, () => undefined);
      },
    };
  }

  async function createInOrder(
    objects: readonly NewObject[],
    request: RequestOptions = {},
  ): Promise<PutOutcome[]> {
    const outcomes: PutOutcome[] = [];
    for (const { key, body, ...described } of objects) {
      assertKey(key);
      const outcome = await step('put', key, request.signal, () =>
        storeObject(key, new Uint8Array(body), true, described),
      );
      outcomes.push(outcome);
      if (outcome === 'exists') break;
    }
    return outcomes;
  }

  return {
    url,
    capabilities: options.capabilities ?? {
      conditionalPut: true,
      conditionalComplete: true,
      conditionalReplace: true,
    },

    async head(key, request) {
      assertKey(key);
      return step('head', key, request?.signal, () => infoOf(store, key));
    },

    async get(key, request) {
      assertKey(key);
      return step('get', key, request?.signal, () => {
        const info = infoOf(store, key);
        const bytes = store.objects.get(key)?.bytes;
        if (info === null || bytes === undefined) return null;
        const { start, end } = clipRange(request?.range, info.size);
        return { info, body: chunksOf(bytes.subarray(start, end), chunkBytes, request?.signal) };
      });
    },

    async put(key, body, request = {}) {
      assertKey(key);
      const bytes = new Uint8Array(body);
      return step('put', key, request.signal, () => {
        assertDigest(key, bytes, request.sha256);
        return storeObject(key, bytes, request.ifAbsent, request);
      });
    },

    ...(options.createsInOrder === true ? { createInOrder } : {}),

    async replace(key, body, etag, request = {}) {
      assertKey(key);
      const bytes = new Uint8Array(body);
      return step('replace', key, request.signal, () => {
        if (store.objects.get(key)?.etag !== etag) return 'changed';
        storeObject(key, bytes, false, request);
        return 'replaced';
      });
    },

    async upload(key, request = {}) {
      assertKey(key);
      await step('upload', key, request.signal, () => undefined);
      const token = `upload-${(store.writes += 1)}`;
      store.uploads.set(token, []);
      return writerOf(key, token, request);
    },

    ...(options.resumable === true
      ? {
          async resumeUpload(key: string, token: string, request: ObjectOptions = {}) {
            return step('upload', key, request.signal, () => {
              const chunks = store.uploads.get(token);
              if (chunks === undefined) return null;
              const storedBytes = chunks.reduce((sum, { length }) => sum + length, 0);
              return { upload: writerOf(key, token, request), storedBytes };
            });
          },
        }
      : {}),

    async *list(prefix, request) {
      assertPrefix(prefix);
      let after = '';
      for (let isWhole = false; !isWhole;) {
        const page = await step('list', prefix, request?.signal, () => {
          const keys = [...store.objects.keys()]
            .filter((key) => key > after && key.startsWith(prefix))
            .sort();
          isWhole = keys.length <= pageSize;
          return keys.slice(0, pageSize).flatMap((key) => infoOf(store, key) ?? []);
        });
        yield* page;
        after = page.at(-1)?.key ?? after;
      }
    },

    async delete(keys, request) {
      keys.forEach(assertKey);
      for (const key of keys) {
        await step('delete', key, request?.signal, () => store.objects.delete(key));
      }
    },
  };
}

function infoOf(store: MemoryStore, key: string): ListedObject | null {
  const object = store.objects.get(key);
  if (object === undefined) return null;
  const { bytes, modified, etag } = object;
  return { key, size: bytes.length, modified, etag };
}

// eslint-disable-next-line @typescript-eslint/require-await -- a body is asynchronous by contract
async function* chunksOf(
  bytes: Uint8Array,
  chunkBytes: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (let start = 0; start < bytes.length; start += chunkBytes) {
    throwIfAborted(signal, 'reading a body');
    yield bytes.slice(start, start + chunkBytes);
  }
}

function assertDigest(key: string, bytes: Uint8Array, expected: Uint8Array | undefined): void {
  if (expected === undefined) return;
  const got = createHash('sha256').update(bytes).digest();
  if (!got.equals(expected)) {
    throw new NicheError('storage-integrity', `the body of ${quote(key)} has another SHA-256`);
  }
}
