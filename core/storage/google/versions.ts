import * as z from 'zod';

import { quote } from '../../errors.ts';
import { readJson } from '../../util/google-rest.ts';
import { discardBody } from '../../util/transport.ts';
import type { RequestOptions } from '../bucket.ts';
import type { GoogleBucketClient } from './client.ts';
import { isGoogleError } from './errors.ts';
import { bucketPath, objectPath } from './read.ts';

const page = z.looseObject({
  items: z.array(z.looseObject({ name: z.string(), generation: z.coerce.string() })).default([]),
});

/**
 * {@link Bucket.deleteVersions}. A bucket with soft delete keeps them for its retention time: only the
 * bucket's owner can shorten that.
 */
export async function deleteGenerations(
  client: GoogleBucketClient,
  key: string,
  { signal }: RequestOptions = {},
): Promise<void> {
  const name = client.objectName(key);
  const { bucket } = client.location;
  await client.run({
    action: `deleting the versions of ${quote(key)} in ${client.url}`,
    signal,
    attempt: async (send) => {
      // A page starts with the generations of this object, and more than one page of them is unlikely:
      // then the list is requested again.
      for (let found = -1; found !== 0;) {
        const response = await send({
          method: 'GET',
          path: `${bucketPath(bucket)}/o`,
          query: { prefix: name, versions: 'true', fields: 'items(name,generation)' },
        });
        const { items } = page.parse(await readJson(response));
        const generations = items.filter((item) => item.name === name);
        found = generations.length;
        for (const { generation } of generations) {
          try {
            const query = { generation };
            const path = objectPath(client, name);
            await discardBody(await send({ method: 'DELETE', path, query }));
          } catch (error) {
            if (!isGoogleError(error, 404)) throw error;
          }
        }
      }
    },
  });
}
