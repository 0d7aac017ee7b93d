import * as z from 'zod';
import { isNicheError, messageOf, NicheError } from '../../errors.ts';
import { readJson } from '../../util/google-rest.ts';
import { discardBody } from '../../util/transport.ts';
import { bucketPath } from './read.ts';
import { createGoogleBucketClient, type GoogleOptions, type GoogleBucketClient } from './client.ts';
import { endpointOf, formatGoogleUrl, type GoogleLocation } from './url.ts';
import type { ProvisionedBucket, StorageProvisioner } from '../provision.ts';

/** Includes listing, so that missing objects have the status 404, as readers expect. */
const readerRole = 'roles/storage.objectViewer';
const everyone = 'allUsers';

/** The used parts of a bucket's policy; other fields are sent back unchanged. */
const policy = z.looseObject({
  bindings: z
    .array(z.looseObject({ role: z.string(), members: z.array(z.string()).default([]) }))
    .default([]),
});

/** {@link StorageProvisioner} of a bucket, or of a prefix of one. */
export function googleProvisioner(
  location: GoogleLocation,
  options: GoogleOptions,
): StorageProvisioner {
  const client = createGoogleBucketClient(location, options);
  const { bucket, prefix } = location;
  return {
    url: client.url,
    bucketUrl: formatGoogleUrl({ ...location, prefix: '' }),
    publicUrl: `${endpointOf(location)}/${bucket}/${prefix}`.replace(/\/$/, ''),
    siblingUrl: (root) => formatGoogleUrl({ ...location, bucket: `${bucket}-${root}` }),
    publicAdvice: `let everyone read it with: gcloud storage buckets add-iam-policy-binding gs://${bucket} --member=${everyone} --role=${readerRole}`,
    uploadRights: `a service account with roles/storage.objectCreator on gs://${bucket}, limited by a condition to objects below ${prefix}staging/, and with roles/storage.objectViewer there, limited to objects and listings below ${prefix}receipts/`,
    createUploadCredentials: () => Promise.resolve(null),
    create: (isPublic) => (isPublic ? createPublic(client) : createPrivate(client)),
    resolveUrl: () => Promise.resolve(client.url),
  };
}

async function createPublic(client: GoogleBucketClient): Promise<ProvisionedBucket> {
  const isNew = await create(client, {});
  try {
    const action = `making ${client.url} public`;
    const path = `${bucketPath(client.location.bucket)}/iam`;
    await client.run({
      action,
      attempt: async (send) => {
        const before = policy.parse(await readJson(await send({ method: 'GET', path })));
        if (isReadable(before)) return;
        const binding = { role: readerRole, members: [everyone] };
        // The etag in it makes the change conditional on the policy that was read.
        const body = JSON.stringify({ ...before, bindings: [...before.bindings, binding] });
        const headers = { 'content-type': 'application/json' };
        await discardBody(await send({ method: 'PUT', path, headers, body }));
      },
    });
    return { isNew };
  } catch (error) {
    if (!isNicheError(error)) throw error;
    return { isNew, notPublic: messageOf(error) };
  }
}

/** @throws NicheError `usage` for a public bucket */
async function createPrivate(client: GoogleBucketClient): Promise<ProvisionedBucket> {
  const isNew = await create(client, { publicAccessPrevention: 'enforced' });
  if (isNew) return { isNew };
  const action = `checking who can read ${client.url}`;
  const path = `${bucketPath(client.location.bucket)}/iam`;
  const isOpen = await client.run({
    action,
    attempt: async (send) => {
      // Credentials that may not read the policy may still use the bucket.
      const response = await send({ method: 'GET', path, accept: [403, 404] });
      if (response.status === 200) return isReadable(policy.parse(await readJson(response)));
      await discardBody(response);
      return false;
    },
  });
  if (!isOpen) return { isNew };
  throw new NicheError('usage', `${client.url} is public: expected a private bucket`, {
    hint: 'specify another bucket',
  });
}

/** @returns whether it was missing */
async function create(client: GoogleBucketClient, access: object): Promise<boolean> {
  const { bucket } = client.location;
  const isThere = await client.run({
    action: `checking ${client.url}`,
    attempt: async (send) => {
      const query = { fields: 'name' };
      const response = await send({
        method: 'GET',
        path: bucketPath(bucket),
        query,
        accept: [404],
      });
      await discardBody(response);
      return response.status !== 404;
    },
  });
  if (isThere) return false;
  const project = await client.projectId();
  await client.run({
    action: `creating ${client.url}`,
    attempt: async (send) => {
      const iamConfiguration = { uniformBucketLevelAccess: { enabled: true }, ...access };
      const response = await send({
        method: 'POST',
        path: '/storage/v1/b',
        query: { project, fields: 'name' },
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ name: bucket, iamConfiguration }),
      });
      await discardBody(response);
    },
  });
  return true;
}

function isReadable({ bindings }: z.infer<typeof policy>): boolean {
  return bindings.some(
    ({ role, members }) =>
      /^roles\/storage\.(?:objectViewer|legacyObjectReader)$/.test(role) &&
      members.includes(everyone),
  );
}
