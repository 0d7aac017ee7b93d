import type { StoredCredentials } from './credentials.ts';

/** Provisions storage for a new cache: one of its three roots. */
export interface StorageProvisioner {
  /** The storage's URL in its canonical form. */
  readonly url: string;
  /** The URL of the whole bucket: with several storages, credentials reach all of it. */
  readonly bucketUrl: string;
  /** Where clients without credentials read it; null where only the provider's console shows that. */
  readonly publicUrl: string | null;
  /** Returns the default for another root of the cache with this public root: a bucket beside it. */
  siblingUrl(root: 'staging' | 'private'): string;
  /** How to make it publicly readable by hand: a sentence without its full stop. */
  readonly publicAdvice: string;
  /** The least permissions for uploaders: to stage and to read receipts. */
  readonly uploadRights: string;
  /**
   * Creates credentials with just those permissions.
   *
   * @param expires when they expire
   * @returns null where an administrator has to create them
   */
  createUploadCredentials(expires: Date): Promise<StoredCredentials | null>;
  /** How long such credentials may take to become active, in milliseconds. @default 0 */
  readonly uploadCredentialsDelayMs?: number;
  /**
   * Creates the bucket if it is missing. Makes a public one publicly readable, where the provider
   * allows that.
   *
   * @throws NicheError `usage` where a private bucket is publicly readable, `storage-denied`,
   *   `storage-unavailable`
   */
  create(isPublic: boolean): Promise<ProvisionedBucket>;
  /**
   * Returns the URL to record for the cache. Where the server's support for conditional
   * writes is unknown, it is tested first, and the URL states the result.
   *
   * @throws NicheError `usage` where the URL states more than the server honours, `storage-denied`,
   *   `storage-unavailable`
   */
  resolveUrl(): Promise<string>;
}

export interface ProvisionedBucket {
  readonly isNew: boolean;
  /** Why a public bucket could not be made publicly readable. */
  readonly notPublic?: string;
}
