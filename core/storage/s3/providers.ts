import type { BucketCapabilities } from '../bucket.ts';

/** A provider of S3 storage. All differences between providers are in this table. */
export interface S3Provider {
  /** The name to show. */
  readonly title: string;
  /** The endpoint, where it follows from the region; otherwise the URL must specify it. */
  readonly endpoint?: (region: string) => string;
  /** The region for URLs that specify none. @default the settings of the AWS tools */
  readonly region?: string;
  /** Supports `x-amz-checksum-…` headers. Others check the SHA-256 that the signature covers. */
  readonly checksums: boolean;
  readonly capabilities: BucketCapabilities;
  /** A hosted service, so this table holds for every bucket. Otherwise software of any version. */
  readonly isService: boolean;
  /** How to make a bucket public; `manual` where only the provider's console can. */
  readonly publicRead: 'policy' | 'acl' | 'manual';
  /** How to do that by hand; a sentence without its full stop. */
  readonly publicAdvice: string;
  /** Parts of one upload in flight. */
  readonly partsAtOnce: number;
}

const conditional: BucketCapabilities = {
  conditionalPut: true,
  conditionalComplete: true,
  conditionalReplace: true,
};

/** For providers that ignore or refuse `If-None-Match` and `If-Match`. */
const unconditional: BucketCapabilities = {
  conditionalPut: false,
  conditionalComplete: false,
  conditionalReplace: false,
};

/** For providers that honour the conditions of a PUT, and ignore those of a multipart completion. */
const conditionalPuts: BucketCapabilities = { ...conditional, conditionalComplete: false };

/** The values of `conditional=` in a URL. */
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
      'give the bucket a custom domain in the provider’s console and specify it with --substituter',
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

/** The values of `provider=` in a URL. */
export const providerNames: readonly string[] = Object.keys(s3Providers).filter(
  (name) => name !== 'other',
);

export function isS3Provider(name: string): name is S3ProviderName {
  return providerNames.includes(name);
}
