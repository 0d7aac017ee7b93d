import { isNicheError, messageOf, NicheError } from '../../errors.ts';
import type { ProvisionedBucket, StorageProvisioner } from '../provision.ts';
import { isS3Error } from './errors.ts';
import { createS3BucketClient, type S3Options, type S3BucketClient } from './client.ts';
import { openS3Bucket } from './driver.ts';
import { probeConditions } from './probe-conditions.ts';
import { formatS3Url, s3PublicUrl, type S3Conditional, type S3Location } from './url.ts';

/** {@link StorageProvisioner} of a bucket, or of a prefix of one. */
export function s3Provisioner(location: S3Location, options: S3Options): StorageProvisioner {
  const client = createS3BucketClient(location, options);
  return {
    url: client.url,
    bucketUrl: formatS3Url({ ...location, prefix: '' }),
    publicUrl: s3PublicUrl(location),
    siblingUrl: (root) => formatS3Url({ ...location, bucket: `${location.bucket}-${root}` }),
    publicAdvice: client.provider.publicAdvice,
    uploadRights: uploadRights(location),
    createUploadCredentials: () => Promise.resolve(null),
    create: (isPublic) => createBucket(client, isPublic),
    resolveUrl: () => resolveUrl(client, options),
  };
}

/** From none to all. */
const byStrength: readonly S3Conditional[] = ['no', 'put', 'yes'];

/** @throws NicheError `usage` where the URL states more than the server honours */
async function resolveUrl(
  { location, provider, url }: S3BucketClient,
  options: S3Options,
): Promise<string> {
  const stated = location.conditional;
  // The presets of public services are known to be true, and a server cannot honour less than nothing.
  if (stated === undefined ? provider.isService : stated === 'no') return url;
  const found = await probeConditions(openS3Bucket({ ...location, conditional: 'yes' }, options));
  if (stated === undefined) return formatS3Url({ ...location, conditional: found });
  if (byStrength.indexOf(found) >= byStrength.indexOf(stated)) return url;
  const does =
    found === 'put' ? 'honours only the conditions of single writes' : 'ignores conditional writes';
  throw new NicheError(
    'usage',
    `${url} states conditional=${stated}, but its server ${does}: two publishers would overwrite each other’s objects`,
    { hint: `write conditional=${found}, or omit it: niche init detects it` },
  );
}

/** The actions of the policy in docs/storage/s3.md. */
function uploadRights({ bucket, prefix }: S3Location): string {
  const arn = `arn:aws:s3:::${bucket}`;
  return [
    `s3:PutObject, s3:AbortMultipartUpload and s3:ListMultipartUploadParts on ${arn}/${prefix}staging/*`,
    '(only with If-None-Match, where the server knows that condition)',
    `s3:GetObject on ${arn}/${prefix}receipts/*, and s3:ListBucket on ${arn} for that prefix`,
  ].join(', ');
}

async function createBucket(client: S3BucketClient, isPublic: boolean): Promise<ProvisionedBucket> {
  const { bucket: Bucket, provider, location, url } = client;
  const constraint =
    location.provider === 'aws' && location.region !== undefined && location.region !== 'us-east-1'
      ? { CreateBucketConfiguration: { LocationConstraint: location.region as 'eu-central-1' } }
      : {};
  const isThere = await client.run({
    action: `checking ${url}`,
    attempt: async ({ sdk, s3 }) => {
      try {
        // The response to a HEAD would not explain a wrong region, clock or key.
        await s3.send(new sdk.ListObjectsV2Command({ Bucket, MaxKeys: 1 }));
        return true;
      } catch (error) {
        if (isS3Error(error, 404)) return false;
        throw error;
      }
    },
  });
  if (!isThere) {
    await client.run({
      action: `creating ${url}`,
      attempt: async ({ sdk, s3 }) => {
        try {
          await s3.send(
            new sdk.CreateBucketCommand({
              Bucket,
              ...constraint,
              ...(isPublic && provider.publicRead === 'acl' ? { ACL: 'public-read' as const } : {}),
            }),
          );
        } catch (error) {
          // An earlier attempt created it.
          if (!isS3Error(error, 'BucketAlreadyOwnedByYou')) throw error;
        }
      },
    });
  }
  if (!isPublic) return { isNew: !isThere };
  try {
    if (provider.publicRead === 'policy') await allowReading(client);
    return { isNew: !isThere };
  } catch (error) {
    if (!isNicheError(error)) throw error;
    return { isNew: !isThere, notPublic: messageOf(error) };
  }
}

/** Lets everyone read objects below the prefix, unless the bucket already has a policy. */
async function allowReading(client: S3BucketClient): Promise<void> {
  const { bucket: Bucket, location } = client;
  const action = `making ${client.url} public`;
  const hasPolicy = await client.run({
    action,
    attempt: async ({ sdk, s3 }) => {
      try {
        const { Policy } = await s3.send(new sdk.GetBucketPolicyCommand({ Bucket }));
        return Policy !== undefined && Policy !== '';
      } catch (error) {
        if (isS3Error(error, 'NoSuchBucketPolicy', 404)) return false;
        throw error;
      }
    },
  });
  if (hasPolicy) return;
  if (location.provider === 'aws') {
    await client.run({
      action,
      attempt: async ({ sdk, s3 }) => s3.send(new sdk.DeletePublicAccessBlockCommand({ Bucket })),
    });
  }
  const Policy = JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      {
        Sid: 'NicheReaders',
        Effect: 'Allow',
        Principal: '*',
        Action: 's3:GetObject',
        Resource: `arn:aws:s3:::${Bucket}/${location.prefix}*`,
      },
    ],
  });
  await client.run({
    action,
    attempt: async ({ sdk, s3 }) => s3.send(new sdk.PutBucketPolicyCommand({ Bucket, Policy })),
  });
}
