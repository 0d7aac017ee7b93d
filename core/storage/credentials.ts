/**
 * What opens a storage. A driver that is given none asks its SDK's own default chain; one that is
 * given another storage's refuses. Secrets: in no message, and in no `url` of a bucket.
 */
export type StorageCredentials =
  S3Credentials | S3Role | AzureCredentials | GoogleCredentials | Anonymous;

export interface S3Credentials {
  readonly kind: 's3';
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

/** A role that this machine's own AWS credentials assume, anew whenever a session ends. */
export interface S3Role {
  readonly kind: 's3-role';
  /** `arn:aws:iam::…:role/…` */
  readonly role: string;
}

/** Exactly one of these. */
export interface AzureCredentials {
  readonly kind: 'azure';
  /** The account's key, base64. */
  readonly accountKey?: string | undefined;
  /** A shared access signature, as a query without its `?`. */
  readonly sas?: string | undefined;
  readonly connectionString?: string | undefined;
}

export interface GoogleCredentials {
  readonly kind: 'google';
  /** A service account's key, the JSON document that Google hands out. */
  readonly serviceAccount: string;
}

/** Requests are sent unsigned, for what everyone may read. */
export interface Anonymous {
  readonly kind: 'anonymous';
}

export interface OpenOptions {
  readonly credentials?: StorageCredentials | undefined;
}
