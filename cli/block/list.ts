import { listMarkers } from '../../core/cache/blocklist.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import { readRecord } from '../../core/cache/withdraw/records.ts';
import { isNicheError } from '../../core/errors.ts';
import type { Context } from '../process/context.ts';

/** A withdrawn path, or refused contents. */
interface ListedBlock {
  readonly kind: 'path' | 'contents';
  /** The store path, or its hash if the cache never had it; for contents their NAR hash. */
  readonly name: string;
  /** ISO 8601; null when the record is damaged, which withdraws nevertheless. */
  readonly at: string | null;
  readonly reason: string | null;
}

/** Prints the withdrawn paths and the refused contents of a cache, with the reasons. */
export async function listBlocks(
  cache: OpenCache,
  { json }: { readonly json: boolean },
  { stdout }: Context,
): Promise<void> {
  for await (const { kind, hash, object } of listMarkers(cache.private)) {
    if (kind !== 'path' && kind !== 'nar') continue;
    const record = await readRecord(cache.private, object.key).catch((error: unknown) => {
      if (isNicheError(error, 'malformed-config')) return null;
      throw error;
    });
    const listed: ListedBlock = {
      kind: kind === 'path' ? 'path' : 'contents',
      name: (kind === 'path' ? record?.path : undefined) ?? hash,
      at: record?.at ?? null,
      reason: record?.why ?? null,
    };
    stdout.write(`${json ? JSON.stringify(listed) : describe(listed)}\n`);
  }
}

function describe({ kind, name, at, reason }: ListedBlock): string {
  const what = kind === 'path' ? 'withdrawn' : 'refused';
  const why = reason === null || reason === '' ? '' : `: ${reason}`;
  return `${at ?? 'unknown time'} ${what} ${name}${why}`;
}
