/**
 * Object storage: one bucket, or a prefix of one. Keys are relative to it, use `/`, and follow
 * {@link assertKey}.
 *
 * Missing is `null`. Every failure throws a NicheError: `storage-denied`, `storage-unavailable`
 * (down, throttled, timed out: a retry may help), `storage-full`, `storage-integrity` (other bytes
 * than declared), `invalid-key`. Denied or down is never "missing". An aborted `signal` ends an
 * operation, its body or its upload with `aborted`.
 */
export interface Bucket {
  /** Its URL, for people; never contains a credential. */
  readonly url: string;
  readonly capabilities: BucketCapabilities;
  head(key: string, options?: RequestOptions): Promise<ObjectInfo | null>;
  /** Returns the object's bytes, or those of `range`. The body throws if it breaks off. */
  get(key: string, options?: GetOptions): Promise<StoredObject | null>;
  /** Stores `body` atomically: nothing is visible under `key` before all of it is. */
  put(key: string, body: Uint8Array, options?: PutOptions): Promise<PutOutcome>;
  /**
   * Creates objects one after the other: each is visible before the next, and the first that already
   * exists ends the sequence. Absent where this costs no less than as many calls of `put`.
   *
   * @returns the outcome of each attempt: only the last may be `exists`
   */
  createInOrder?(
    objects: readonly NewObject[],
    options?: RequestOptions,
  ): Promise<readonly PutOutcome[]>;
  /**
   * Replaces the object whose etag is `etag`.
   *
   * @returns `changed`, with nothing written, when another object is stored there now, or none
   */
  replace(
    key: string,
    body: Uint8Array,
    etag: string,
    options?: ObjectOptions,
  ): Promise<ReplaceOutcome>;
  /** Begins an object of unknown length. It is visible only once it is committed. */
  upload(key: string, options?: ObjectOptions): Promise<Upload>;
  /**
   * Resumes an unfinished upload, perhaps of another process. Absent where a storage cannot do that.
   *
   * @param token its {@link Upload.token}
   * @returns null when nothing of it is left
   */
  resumeUpload?(key: string, token: string, options?: ObjectOptions): Promise<ResumedUpload | null>;
  /** Lists every object whose key starts with `prefix`, in byte order of the keys. */
  list(prefix: string, options?: RequestOptions): AsyncIterable<ListedObject>;
  /** Deletes the objects under `keys`; a missing one is no failure. */
  delete(keys: readonly string[], options?: RequestOptions): Promise<void>;
  /**
   * Deletes the object under `key` with all its versions and snapshots, also those that a plain
   * deletion left. Absent where a storage has none. Objects under a retention policy stay.
   */
  deleteVersions?(key: string, options?: RequestOptions): Promise<void>;
  /**
   * Removes unfinished uploads to keys that start with `prefix`, last written to before `olderThan`. A
   * storage that only holds uploads of niche may ignore `prefix`. Absent where a storage keeps no
   * unfinished uploads.
   *
   * @returns the number of removed uploads
   */
  sweepUploads?(prefix: string, olderThan: Date): Promise<number>;
}

/** What can be read: a {@link Bucket}, or a cache over HTTP. */
export type ObjectReader = Pick<Bucket, 'url' | 'head' | 'get'>;

/** What a storage guarantees; callers check before they rely on it. */
export interface BucketCapabilities {
  /** `put` honours `ifAbsent` atomically: of concurrent writers exactly one creates. */
  readonly conditionalPut: boolean;
  /** `Upload.commit` honours `ifAbsent` atomically. */
  readonly conditionalComplete: boolean;
  /** `replace` is atomic: of concurrent writers that replace one etag exactly one succeeds. */
  readonly conditionalReplace: boolean;
}

export interface ObjectInfo {
  readonly key: string;
  /** In bytes; undefined where the server of a cache over HTTP does not state it. */
  readonly size: number | undefined;
  readonly modified: Date;
  /** Changes whenever the object does. */
  readonly etag: string;
}

/** An object in a bucket, whose size is always known. */
export interface ListedObject extends ObjectInfo {
  readonly size: number;
}

export interface StoredObject {
  readonly info: ObjectInfo;
  /** In large chunks. Consume it or call its iterator's `return`, else the connection stays open. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface GetOptions extends RequestOptions {
  /**
   * Bytes from `start` up to, not including, `end`. A range beyond the object's end is cut, perhaps to
   * nothing. @default end: the object's end
   */
  readonly range?: { readonly start: number; readonly end?: number } | undefined;
  /**
   * Allows the storage to reuse a chunk's memory once the reader requests the next chunk, which spares
   * allocations. @default false
   */
  readonly lend?: boolean | undefined;
}

export interface ObjectOptions extends RequestOptions {
  readonly contentType?: string | undefined;
  readonly cacheControl?: string | undefined;
  /**
   * An upload's size in bytes, where it is known in advance: with create-only credentials, some
   * storages accept an object only in one request, which has to state its size.
   */
  readonly size?: number | undefined;
}

export interface PutOptions extends ObjectOptions {
  /** Creates only: an existing object stays as it is, and the outcome is `exists`. */
  readonly ifAbsent?: boolean | undefined;
  /** The body's SHA-256, checked by the storage on arrival where it can. */
  readonly sha256?: Uint8Array | undefined;
  /**
   * `false` for an object that may be missing or damaged after a power loss of the storage, where
   * durability costs time. @default true
   */
  readonly durable?: boolean | undefined;
}

/** A small object to create, with its options. */
export interface NewObject extends Omit<ObjectOptions, 'signal'> {
  readonly key: string;
  readonly body: Uint8Array;
}

/** `exists`: an existing object was left as it was (only with `ifAbsent`). */
export type PutOutcome = 'created' | 'exists';

/** `changed`: the object was no longer the expected one, and was left as it was. */
export type ReplaceOutcome = 'replaced' | 'changed';

/** An unfinished object, written one call at a time. Exactly one of `commit` and `abort` ends it. */
export interface Upload {
  /**
   * Identifies what is stored so far, for {@link Bucket.resumeUpload}. Keep it like a credential: with
   * Google it allows anyone to write the rest of this object.
   */
  readonly token?: string | undefined;
  /**
   * Takes the next bytes. Resolves when it can take more, so awaiting it bounds memory. The caller may
   * then reuse the chunk.
   */
  write(chunk: Uint8Array): Promise<void>;
  /** Makes the whole object visible atomically. */
  commit(options?: { readonly ifAbsent?: boolean | undefined }): Promise<PutOutcome>;
  /** Leaves nothing readable. Safe at any time; does nothing after a successful `commit`. */
  abort(): Promise<void>;
}

export interface ResumedUpload {
  readonly upload: Upload;
  /** The number of the object's first bytes that the storage has; the next write continues there. */
  readonly storedBytes: number;
}
