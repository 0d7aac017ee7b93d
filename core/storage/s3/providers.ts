import type { BucketCapabilities } from '../bucket.ts';

/** What speaks S3, and how it differs. All that differs is in this table. */
export interface S3Provider {
  /** For people. */
  readonly title: string;
  /** Where it answers, where that follows from the region; else a URL has to name it. */
  readonly endpoint?: (region: string) => string;
  /** The region where a URL names none; AWS's own chain of settings decides where this is absent. */
  readonly region?: string;
  /** Takes `x-amz-checksum-…` headers. Others check the SHA-256 that the signature covers. */
  readonly checksums: boolean;
  readonly capabilities: BucketCapabilities;
  /** One service, which is what this table says wherever it is used; else a program, of any age. */
  readonly isService: boolean;
  /** How everyone is allowed to read a bucket; `manual` where only the provider's console can. */
  readonly publicRead: 'policy' | 'acl' | 'manual';
  /** What to do where that fails or has to be done by hand; a sentence without its full stop. */
  readonly publicAdvice: string;
  /** Parts of one upload under way at once. */
  readonly partsAtOnce: number;
}

const conditional: BucketCapabilities = {
  conditionalPut: true,
  conditionalComplete: true,
  conditionalReplace: true,
};

/** Of a provider that ignores or refuses `If-None-Match` and `If-Match`. */
const unconditional: BucketCapabilities = {
  conditionalPut: false,
  conditionalComplete: false,
  conditionalReplace: false,
};

/** Of one that heeds the conditions of a PUT, and drops those of a multipart's completion. */
const conditionalPuts: BucketCapabilities = { ...conditional, conditionalComplete: false };

/** What a URL may say of a server. */
export const conditionals = { yes: conditional, put: conditionalPuts, no: unconditional };

const policyAdvice =
  'give everyone s3:GetObject on it with a bucket policy, as docs/storage/s3.md shows';

export type S3ProviderName = 'aws' | 'minio' | 'ceph' | 'b2' | 'wasabi' | 'r2' | 'other';

export const s3Providers: Readonly<Record<S3ProviderName, S3Provider>> = {
  aws: {
    title: 'Amazon S3',
    checksums: true,
    capabilities: conditional,
    isService: true,
    publicRead: 'policy',
    publicAdvice: `allow public policies for the bucket (and the account), then ${policyAdvice}`,
    partsAtOnce: 4,
  },
  minio: {
    title: 'MinIO',
    region: 'us-east-1',
    checksums: true,
    capabilities: conditional,
    isService: false,
    publicRead: 'policy',
    publicAdvice: policyAdvice,
    partsAtOnce: 4,
  },
  ceph: {
    title: 'Ceph',
    region: 'us-east-1',
    checksums: false,
    capabilities: conditionalPuts,
    isService: false,
    publicRead: 'policy',
    publicAdvice: policyAdvice,
    partsAtOnce: 4,
  },
  b2: {
    title: 'Backblaze B2',
    endpoint: (region) => `https://s3.${region}.backblazeb2.com`,
    checksums: false,
    capabilities: unconditional,
    isService: true,
    publicRead: 'acl',
    publicAdvice: 'set the bucket to “Public” in the provider’s console',
    partsAtOnce: 4,
  },
  wasabi: {
    title: 'Wasabi',
    endpoint: (region) => `https://s3.${region}.wasabisys.com`,
    region: 'us-east-1',
    checksums: false,
    capabilities: unconditional,
    isService: true,
    publicRead: 'policy',
    publicAdvice: `ask the provider to allow public access for the account, then ${policyAdvice}`,
    partsAtOnce: 4,
  },
  r2: {
    title: 'Cloudflare R2',
    region: 'auto',
    checksums: false,
    capabilities: conditional,
    isService: true,
    publicRead: 'manual',
    publicAdvice:
      'give the bucket a custom domain in the provider’s console and name it with --substituter',
    partsAtOnce: 2,
  },
  /** Any other endpoint. */
  other: {
    title: 'S3',
    region: 'us-east-1',
    checksums: false,
    capabilities: conditional,
    isService: false,
    publicRead: 'policy',
    publicAdvice: policyAdvice,
    partsAtOnce: 4,
  },
};

/** Those that a URL may name. */
export const namedProviders: readonly string[] = Object.keys(s3Providers).filter(
  (name) => name !== 'other',
);

export function isS3Provider(name: string): name is S3ProviderName {
  return namedProviders.includes(name);
}
