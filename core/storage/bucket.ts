/**
 * A place for objects under keys: one bucket, or a prefix of one. Keys are relative to it, use `/`,
 * and follow {@link assertKey}.
 *
 * Missing is `null`. Every failure throws a NicheError: `storage-denied`, `storage-unavailable`
 * (down, throttled, timed out: a retry may help), `storage-full`, `storage-integrity` (the bytes
 * are not what they were declared to be), `invalid-key`. Denied or down is never "missing".
 * A `signal` that was aborted ends an operation, its body, or its upload with `aborted`.
 */
export interface Bucket {
  /** Where it is, as a URL for people to read; never holds a credential. */
  readonly url: string;
  readonly capabilities: BucketCapabilities;
  head(key: string, options?: RequestOptions): Promise<ObjectInfo | null>;
  /** The object's bytes, or those of `range`. The body throws if it breaks off. */
  get(key: string, options?: GetOptions): Promise<StoredObject | null>;
  /** Stores `body` whole: nothing is visible under `key` before all of it is. */
  put(key: string, body: Uint8Array, options?: PutOptions): Promise<PutOutcome>;
  /**
   * Creates objects one after the other: each is visible before the next, and the first that is there
   * already ends it. Absent where this costs no less than as many calls of `put`.
   *
   * @returns the outcome of each that was tried: only the last may be `exists`
   */
  createInOrder?(
    objects: readonly NewObject[],
    options?: RequestOptions,
  ): Promise<readonly PutOutcome[]>;
  /**
   * Stores `body` in place of the object whose etag is `etag`, and only of that one.
   *
   * @returns `changed`, with nothing written, when another object is there by now, or none
   */
  replace(
    key: string,
    body: Uint8Array,
    etag: string,
    options?: ObjectOptions,
  ): Promise<ReplaceOutcome>;
  /** Begins an object of unknown length. What is never committed is never visible. */
  upload(key: string, options?: ObjectOptions): Promise<Upload>;
  /**
   * Goes on with an upload that was begun, maybe by a process that is gone, and never ended.
   *
   * @param token its {@link Upload.token}
   * @returns null when nothing of it is left; absent where a storage cannot go on with uploads
   */
  resumeUpload?(key: string, token: string, options?: ObjectOptions): Promise<ResumedUpload | null>;
  /** Every object whose key starts with `prefix`, in byte order of the keys. */
  list(prefix: string, options?: RequestOptions): AsyncIterable<ObjectInfo>;
  /** Deletes what is there of `keys`; a key that is missing is no failure. */
  delete(keys: readonly string[], options?: RequestOptions): Promise<void>;
  /**
   * Removes what is left of uploads to keys that start with `prefix` and that nobody has ended or written
   * to since `olderThan`; returns how many. A storage in which nobody else can have any may not heed
   * `prefix`. Absent where a storage keeps nothing of them.
   */
  sweepUploads?(prefix: string, olderThan: Date): Promise<number>;
}

/** What can be read: a {@link Bucket}, or a cache over HTTP. */
export type ObjectReader = Pick<Bucket, 'url' | 'head' | 'get'>;

/** What a storage can promise; callers ask before they rely on it. */
export interface BucketCapabilities {
  /** `put` honours `ifAbsent` atomically: of racing writers exactly one creates. */
  readonly conditionalPut: boolean;
  /** `Upload.commit` honours `ifAbsent` atomically. */
  readonly conditionalComplete: boolean;
  /** `replace` is atomic: of writers that replace one etag exactly one succeeds. */
  readonly conditionalReplace: boolean;
}

export interface ObjectInfo {
  readonly key: string;
  /** In bytes; NaN where a cache behind HTTP does not tell, which no bucket does. */
  readonly size: number;
  readonly modified: Date;
  /** Changes whenever the object does. */
  readonly etag: string;
}

export interface StoredObject {
  readonly info: ObjectInfo;
  /** Large chunks; consume it or call its iterator's `return`, else the connection stays open. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface GetOptions extends RequestOptions {
  /**
   * Bytes from `start` up to and without `end` (to the object's end when absent). What lies beyond
   * the object's end is left out; nothing may be left.
   */
  readonly range?: { readonly start: number; readonly end?: number } | undefined;
  /**
   * Chunks are only lent: the reader is done with each when it asks for the next, and the storage may
   * then fill it anew, which spares the memory for each to be made and collected. A storage need not.
   */
  readonly lend?: boolean | undefined;
}

export interface ObjectOptions extends RequestOptions {
  readonly contentType?: string | undefined;
  readonly cacheControl?: string | undefined;
  /**
   * Of an upload, in bytes, where it is known before: with credentials that may only create, some
   * storages take an object in one request alone, which has to say it.
   */
  readonly size?: number | undefined;
}

export interface PutOptions extends ObjectOptions {
  /** Create only: an object that is there already stays as it is, and the outcome says so. */
  readonly ifAbsent?: boolean | undefined;
  /** The body's SHA-256, checked by the storage on arrival where it can. */
  readonly sha256?: Uint8Array | undefined;
  /**
   * `false` for what may be missing or damaged after a loss of power of the storage itself, where
   * making sure costs time: no promise depends on the object. @default true
   */
  readonly durable?: boolean | undefined;
}

/** A small object to be created, with what {@link PutOptions} says of it. */
export interface NewObject extends Omit<ObjectOptions, 'signal'> {
  readonly key: string;
  readonly body: Uint8Array;
}

/** `exists`: something was there already and was left as it was (only with `ifAbsent`). */
export type PutOutcome = 'created' | 'exists';

/** `changed`: the object was no longer the one to be replaced, and was left as it was. */
export type ReplaceOutcome = 'replaced' | 'changed';

/** An object being written, one call at a time. Exactly one of `commit` and `abort` ends it. */
export interface Upload {
  /**
   * Names what is stored so far for {@link Bucket.resumeUpload}. Keep it as a credential is kept: with
   * Google whoever has it can write the rest of this object.
   */
  readonly token?: string | undefined;
  /**
   * Takes the next bytes; resolves when more may come, so awaiting it bounds memory. The chunk is
   * the caller's again then, to fill anew.
   */
  write(chunk: Uint8Array): Promise<void>;
  /** Makes the whole object visible at once. */
  commit(options?: { readonly ifAbsent?: boolean | undefined }): Promise<PutOutcome>;
  /** Leaves nothing readable; safe at any time, and does nothing after a `commit` that succeeded. */
  abort(): Promise<void>;
}

export interface ResumedUpload {
  readonly upload: Upload;
  /** How many of the object's first bytes the storage has: what is written next comes after them. */
  readonly storedBytes: number;
}
