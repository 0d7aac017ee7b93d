import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { NicheError, messageOf, quote } from '../../errors.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { publishersPrefix } from '../layout.ts';
import type { CacheBuckets } from '../layout.ts';
import { readText } from '../objects.ts';

/** The right to publish, for storage where two publishers could overwrite each other's objects. */
export interface PublisherLease {
  /** @throws NicheError `storage-unavailable` when the lease has run out and another process may publish */
  assertHeld(): void;
  release(): Promise<void>;
}

export interface LeaseOptions {
  /** A host and a process, for people. */
  readonly holder: string;
  /** A lease that is not renewed for this long has run out, in milliseconds. @default 30,000 */
  readonly lifetimeMs?: number;
}

/** Whether two publishers of the cache could overwrite each other's objects. */
export function needsLease(cache: Pick<CacheBuckets, 'public' | 'private'>): boolean {
  return !(cache.public.capabilities.conditionalPut && cache.private.capabilities.conditionalPut);
}

/**
 * Takes the lease of the cache whose private root is `bucket`, and renews it until it is released. If
 * two processes start at once, both may be refused. Local time and storage time are never compared,
 * since clocks differ.
 *
 * @throws NicheError `publisher-running` while another process holds it
 */
export async function takeLease(bucket: Bucket, options: LeaseOptions): Promise<PublisherLease> {
  const { holder, lifetimeMs = 30_000 } = options;
  const key = `${publishersPrefix}${randomUUID()}`;
  let renewedAt = performance.now();

  async function renew(): Promise<void> {
    const startedAt = performance.now();
    await bucket.put(key, Buffer.from(`${holder}\n`));
    renewedAt = startedAt;
  }

  await renew();
  // The next turn retries a failure. assertHeld throws once it has lasted too long.
  const timer = setInterval(() => void renew().catch(() => undefined), lifetimeMs / 3);
  timer.unref();

  async function release(): Promise<void> {
    clearInterval(timer);
    await bucket.delete([key]);
  }

  try {
    await waitForOthers(bucket, key, lifetimeMs);
  } catch (error) {
    await release().catch(() => undefined);
    throw error;
  }
  return {
    assertHeld() {
      if (performance.now() - renewedAt < lifetimeMs) return;
      throw new NicheError(
        'storage-unavailable',
        `cannot publish to ${bucket.url}: this process could not renew its lease for ${lifetimeMs / 1000} s`,
        { hint: 'start it again; staged batches are kept' },
      );
    },
    release,
  };
}

/**
 * Waits until no other lease is left. Deletes leases that run out meanwhile.
 *
 * @throws NicheError `publisher-running` when another lease is new or renewed
 */
async function waitForOthers(bucket: Bucket, own: string, lifetimeMs: number): Promise<void> {
  const seen = new Map<string, string>();
  const startedAt = performance.now();
  for (let isFirst = true; ; isFirst = false) {
    const others: { key: string; version: string }[] = [];
    for await (const { key, etag, modified } of bucket.list(publishersPrefix)) {
      if (key !== own) others.push({ key, version: `${etag} ${modified.getTime()}` });
    }
    if (others.length === 0) return;
    for (const { key, version } of others) {
      const before = seen.get(key);
      // A version that was not there before belongs to a process that runs.
      if (!isFirst && before !== version) throw await publisherRunning(bucket, key);
      seen.set(key, version);
    }
    if (performance.now() - startedAt > lifetimeMs) {
      // From processes that crashed.
      await bucket.delete(others.map(({ key }) => key));
      return;
    }
    await sleep(lifetimeMs / 20);
  }
}

async function publisherRunning(bucket: Bucket, key: string): Promise<NicheError> {
  const holder = await readText(bucket, key, 1024).catch((error: unknown) => messageOf(error));
  return new NicheError(
    'publisher-running',
    `another process publishes to ${bucket.url}: ${quote(holder?.trim() ?? 'it has just ended')}`,
    {
      hint: 'this storage does not write conditionally, so only one process may publish: stop the other, or stage with --no-publish',
    },
  );
}

/** Warns users of storage that does not write conditionally. */
export const singlePublisherWarning =
  'this storage does not write conditionally: only one process may publish at a time, and it may overwrite what other programs write meanwhile';
