/** An operation on a storage: one request, or a few. */
export interface Operation<Api, T> {
  /** What is done, on what: `reading "nar/…" in s3://…`. */
  readonly action: string;
  readonly signal?: AbortSignal | undefined;
  readonly attempt: (api: Api) => Promise<T>;
}

/** Retries operations on one storage. The client of each driver is one. */
export interface OperationRunner<Api> {
  /**
   * Runs an operation within the concurrency that the storage accepts, and retries it.
   *
   * @throws NicheError `storage-…`, as the driver classifies the failure; `aborted`
   */
  run<T>(operation: Operation<Api, T>): Promise<T>;
}
