/** The public host of a storage's buckets, such as `acme.s3.amazonaws.com`. */
export interface PublicHost {
  /** Its groups are those of {@link HostParts}. Without `bucket`, the path begins with the bucket. */
  readonly host: RegExp;
  /** Segments of the path before the bucket. @default none */
  readonly pathStart?: readonly string[];
  /** The storage's word for a bucket. @default bucket */
  readonly noun?: string;
  /** Returns the URL for `openBucket`; null where the host does not determine it. */
  readonly storageUrl: (location: PublicLocation) => string | null;
}

export interface HostParts {
  readonly bucket?: string;
  readonly region?: string;
  readonly account?: string;
}

/** A bucket, or a prefix of one, in a web address. */
export interface PublicLocation extends HostParts {
  readonly bucket: string;
  /** Empty, or begins with `/`. */
  readonly prefix: string;
  readonly host: string;
}
