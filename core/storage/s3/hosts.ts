import type { PublicHost } from '../public-host.ts';

const region = '[a-z]{2,}(?:-[a-z]+)*-[0-9]+';

/** B2's download hosts show only a cluster's number. A region that is missing here needs an S3 URL. */
const b2Regions = [
  'us-west-000',
  'us-west-001',
  'us-west-002',
  'eu-central-003',
  'us-west-004',
  'us-east-005',
  'ca-east-006',
];

export const s3Hosts: readonly PublicHost[] = [
  {
    // Also `s3-eu-west-1`, `s3.dualstack.eu-west-1`, websites and accelerated ones.
    host: new RegExp(
      `^(?:(?<bucket>.+?)\\.)?s3(?:-accelerate|-website|-fips)?(?:\\.dualstack)?(?:[.-](?<region>${region}))?\\.amazonaws\\.com(?:\\.cn)?$`,
    ),
    storageUrl: ({ bucket, prefix, region }) => s3Url(bucket, prefix, { region }),
  },
  {
    host: new RegExp(`^(?:(?<bucket>.+?)\\.)?s3\\.(?<region>${region})\\.backblazeb2\\.com$`),
    storageUrl: ({ bucket, prefix, region }) => s3Url(bucket, prefix, { provider: 'b2', region }),
  },
  {
    host: /^f(?<region>[0-9]{3})\.backblazeb2\.com$/,
    pathStart: ['file'],
    storageUrl({ bucket, prefix, region: cluster }) {
      const region = b2Regions.find((name) => name.endsWith(`-${cluster ?? ''}`));
      return region === undefined ? null : s3Url(bucket, prefix, { provider: 'b2', region });
    },
  },
  {
    host: new RegExp(`^(?:(?<bucket>.+?)\\.)?s3(?:\\.(?<region>${region}))?\\.wasabisys\\.com$`),
    storageUrl: ({ bucket, prefix, region }) =>
      s3Url(bucket, prefix, { provider: 'wasabi', region }),
  },
  {
    host: /^(?:(?<bucket>.+)\.)?(?<account>[0-9a-f]{32}(?:\.(?:eu|fedramp))?)\.r2\.cloudflarestorage\.com$/,
    storageUrl: ({ bucket, prefix, account = '' }) =>
      s3Url(bucket, prefix, {
        provider: 'r2',
        endpoint: `https://${account}.r2.cloudflarestorage.com`,
      }),
  },
];

interface S3Parameters {
  readonly provider?: string;
  readonly region?: string | undefined;
  readonly endpoint?: string;
}

/** @param prefix empty, or begins with `/` */
function s3Url(bucket: string, prefix: string, parameters: S3Parameters): string {
  const query = Object.entries(parameters as Record<string, string | undefined>).flatMap(
    ([name, value]) => (value === undefined ? [] : [`${name}=${value}`]),
  );
  return `s3://${bucket}${prefix}${query.length > 0 ? `?${query.join('&')}` : ''}`;
}
