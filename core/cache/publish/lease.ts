import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { NicheError, messageOf, quote } from '../../errors.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { publishersPrefix } from '../layout.ts';
import { readText } from '../objects.ts';

/** Says that this process is the one that publishes, where the storage cannot keep two apart. */
export interface PublisherLease {
  /** @throws NicheError `storage-unavailable` when it could not be renewed: another may publish now */
  assertHeld(): void;
  release(): Promise<void>;
}

export interface LeaseOptions {
  /** Who holds it, for people: a host and a process. */
  readonly holder: string;
  /** A lease that is not renewed for so long is nobody's, in milliseconds. @default 30,000 */
  readonly lifetimeMs?: number;
}

/** Whether two publishers at once could overwrite each other's objects. */
export function needsLease(cache: { readonly public: Bucket; readonly private: Bucket }): boolean {
  return !(cache.public.capabilities.conditionalPut && cache.private.capabilities.conditionalPut);
}

/**
 * Takes the lease of the cache whose private root is `bucket`. Of two that start at once none may get
 * it. Only what the storage itself says of time is compared: clocks differ.
 *
 * @throws NicheError `publisher-running` while another process holds it
 */
export async function takeLease(bucket: Bucket, options: LeaseOptions): Promise<PublisherLease> {
  const { holder, lifetimeMs = 30_000 } = options;
  const key = `${publishersPrefix}${randomUUID()}`;
  const write = (): Promise<unknown> => bucket.put(key, Buffer.from(`${holder}\n`));
  let renewedAt = performance.now();

  async function renew(): Promise<void> {
    const begun = performance.now();
    await write();
    renewedAt = begun;
  }

  await renew();
  // What fails is tried again at the next turn; assertHeld tells when it has failed for too long.
  const timer = setInterval(() => void renew().catch(() => undefined), lifetimeMs / 3);
  timer.unref();

  async function release(): Promise<void> {
    clearInterval(timer);
    await bucket.delete([key]);
  }

  try {
    await outlastOthers(bucket, key, lifetimeMs);
  } catch (error) {
    await release().catch(() => undefined);
    throw error;
  }
  return {
    assertHeld() {
      if (performance.now() - renewedAt < lifetimeMs) return;
      throw new NicheError(
        'storage-unavailable',
        `publishing to ${bucket.url} ends: this process could not say for ${lifetimeMs / 1000} s that it is the one that publishes`,
        { hint: 'what is staged is kept; start it again' },
      );
    },
    release,
  };
}

/** Waits until no other lease is left, or refuses when one is renewed meanwhile. */
async function outlastOthers(bucket: Bucket, own: string, lifetimeMs: number): Promise<void> {
  const seen = new Map<string, string>();
  const begun = performance.now();
  for (let isFirst = true; ; isFirst = false) {
    const others: { key: string; version: string }[] = [];
    for await (const { key, etag, modified } of bucket.list(publishersPrefix)) {
      if (key !== own) others.push({ key, version: `${etag} ${modified.getTime()}` });
    }
    if (others.length === 0) return;
    for (const { key, version } of others) {
      const before = seen.get(key);
      // One that is new, or has been renewed, is alive.
      if (!isFirst && before !== version) throw await running(bucket, key);
      seen.set(key, version);
    }
    if (performance.now() - begun > lifetimeMs) {
      // Left by processes that died.
      await bucket.delete(others.map(({ key }) => key));
      return;
    }
    await sleep(lifetimeMs / 20);
  }
}

async function running(bucket: Bucket, key: string): Promise<NicheError> {
  const holder = await readText(bucket, key, 1024).catch((error: unknown) => messageOf(error));
  return new NicheError(
    'publisher-running',
    `another process publishes to ${bucket.url}: ${quote(holder?.trim() ?? 'it has just ended')}`,
    {
      hint: 'this storage does not write conditionally, so only one process may publish: stop the other, or stage with --no-publish',
    },
  );
}

/** What a user is to know of a storage that does not write conditionally. */
export const singlePublisherWarning =
  'this storage does not write conditionally: only one process may publish at a time, and what another writes there meanwhile may be overwritten';
