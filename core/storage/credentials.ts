/**
 * Credentials for a storage. Without any, a driver uses its SDK's default chain. A driver refuses
 * credentials of another storage. They are secrets: no message and no `url` of a bucket shows them.
 */
export type StorageCredentials = StoredCredentials | S3Role | Anonymous;

/** Credentials that can be stored: in a cache's encrypted document, for uploaders. */
export type StoredCredentials = S3Credentials | AzureCredentials | GoogleCredentials;

export interface S3Credentials {
  readonly kind: 's3';
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

/** A role that this machine's own AWS credentials assume, again for each session. */
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
  /** A SAS token: a query without its `?`. */
  readonly sas?: string | undefined;
  readonly connectionString?: string | undefined;
}

export interface GoogleCredentials {
  readonly kind: 'google';
  /** A service account's key: the JSON document that Google creates. */
  readonly serviceAccount: string;
}

/** Requests are sent unsigned, to publicly readable storage. */
export interface Anonymous {
  readonly kind: 'anonymous';
}

export interface OpenOptions {
  readonly credentials?: StorageCredentials | undefined;
}
