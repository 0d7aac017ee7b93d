import { mapConcurrent } from '../../util/concurrency.ts';
import { listMarkers } from '../blocklist.ts';
import { listingKey, narHashPrefix, narInfoKey } from '../layout.ts';
import type { BlockedMarker } from '../layout.ts';
import { hasRealisations } from './realisations.ts';
import { removeNars, withdrawPath } from './withdraw.ts';
import type { PublicAndPrivate } from './withdraw.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

/** How long markers stay, in milliseconds. All others stay until an administrator deletes them. */
const markerAgeMs: Readonly<Partial<Record<BlockedMarker['kind'], number>>> = {
  // Publishers remember for ten minutes which paths they found. The rest is for clocks that differ.
  undone: dayMs,
  // A process that deletes objects for longer than this has crashed.
  deleting: hourMs,
  purging: hourMs,
};
/** A path that was blocked within this time is checked by every sweep, in milliseconds. */
const recentMs = dayMs;
/** The blocked paths and contents that one sweep checks. Older ones take turns. */
const maxRecent = 1000;
const maxOlder = 100;
/** A turn lasts this long, in milliseconds: the usual time between two sweeps. */
const turnMs = 10 * minuteMs;
const checksAtOnce = 16;

/** A marker and when it was written, in milliseconds since 1970. */
interface Dated {
  readonly hash: string;
  readonly at: number;
}

/**
 * Withdraws blocked paths that are visible, deletes stored NARs of purged contents, and deletes old
 * markers. Repairs what a publisher has left that crashed after it created a narinfo.
 *
 * @param now in milliseconds since 1970
 * @returns the store hashes of the withdrawn paths
 */
export async function sweepBlocked(buckets: PublicAndPrivate, now: number): Promise<string[]> {
  const paths: Dated[] = [];
  const purged: Dated[] = [];
  const old: string[] = [];
  for await (const { kind, hash, object } of listMarkers(buckets.private)) {
    if (kind === 'path') paths.push({ hash, at: object.modified.getTime() });
    if (kind === 'purged') purged.push({ hash, at: object.modified.getTime() });
    const maxAgeMs = markerAgeMs[kind];
    if (maxAgeMs !== undefined && object.modified.getTime() <= now - maxAgeMs) old.push(object.key);
  }
  await buckets.private.delete(old);
  const withdrawn = await mapConcurrent(selectDue(paths, now), checksAtOnce, async (hash) =>
    (await isVisible(buckets, hash)) && (await withdrawPath(buckets, hash)) ? hash : null,
  );
  await mapConcurrent(selectDue(purged, now), checksAtOnce, async (narHash) => {
    if (await hasNars(buckets, narHash)) await removeNars(buckets, narHash);
  });
  return withdrawn.filter((hash) => hash !== null);
}

/**
 * Returns the recent markers, and a few of the older ones by turns. An older one can only have become
 * visible by a publisher that was suspended for long.
 */
function selectDue(markers: readonly Dated[], now: number): string[] {
  const byAge = markers.toSorted((one, other) => other.at - one.at);
  const recent = byAge.filter(({ at }) => at > now - recentMs).slice(0, maxRecent);
  const rest = byAge.slice(recent.length);
  const turns = Math.max(1, Math.ceil(rest.length / maxOlder));
  const first = (Math.floor(now / turnMs) % turns) * maxOlder;
  return [...recent, ...rest.slice(first, first + maxOlder)].map(({ hash }) => hash);
}

async function isVisible(buckets: PublicAndPrivate, hash: string): Promise<boolean> {
  const found = await Promise.all(
    [narInfoKey(hash), listingKey(hash)].map((key) => buckets.public.head(key)),
  );
  return found.some((object) => object !== null) || hasRealisations(buckets.private, hash);
}

/** Whether there are NARs with this hash. A publisher that was late may have stored one again. */
async function hasNars({ public: bucket }: PublicAndPrivate, narHash: string): Promise<boolean> {
  for await (const _object of bucket.list(narHashPrefix(narHash))) return true;
  return false;
}
