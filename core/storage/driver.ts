import type { Bucket } from './bucket.ts';
import type { OpenOptions, StorageCredentials } from './credentials.ts';
import type { PublicHost } from './public-host.ts';
import type { StorageProvisioner } from './provision.ts';

/** One kind of storage, as the registry in `drivers.ts` lists it. */
export interface StorageDriver {
  /** The scheme of its URLs: `s3:`. */
  readonly protocol: string;
  /** The shortest URL, for people: `s3://bucket`. */
  readonly example: string;
  /**
   * Opens the bucket at `url`. Sends no request.
   *
   * @throws NicheError `invalid-url`; `usage` for credentials of another storage
   */
  open(url: string, options: OpenOptions): Bucket;
  /**
   * Loads what `niche init` needs, and sends no request. Absent where there is nothing to provision.
   *
   * @throws NicheError `invalid-url`; `usage` for credentials of another storage
   */
  openProvisioner?(url: string, options: OpenOptions): Promise<StorageProvisioner>;
  /** Public web addresses of its buckets. @default none */
  readonly publicHosts?: readonly PublicHost[];
  /** Hosts of web consoles, whose addresses are no buckets. @default none */
  readonly consoleHosts?: readonly RegExp[];
  /** How a machine shows that it has credentials for it. Absent where none are needed. */
  readonly ambient?: AmbientCredentials;
  /**
   * Returns credentials in `environment` that the SDK would not find.
   *
   * @throws NicheError `invalid-url`; `usage` for a malformed variable
   */
  environmentCredentials?(url: string, environment: Environment): StorageCredentials | undefined;
  /** Returns the recorded roots of a cache with the settings of the user's URL of the public root. */
  adaptRoots?(publicUrl: string, recorded: RootUrls): RootUrls;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Each one alone shows that the SDK is likely to find credentials. */
export interface AmbientCredentials {
  readonly variables: readonly string[];
  /** Relative to the home folder. */
  readonly files: readonly string[];
  /** A parameter of the URL. */
  readonly parameter?: string;
}

/** The URLs of a cache's three roots. */
export interface RootUrls {
  /** The public root. */
  readonly storage: string;
  readonly staging: string;
  readonly private: string;
}
