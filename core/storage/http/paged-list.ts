import { NicheError } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { ListedObject } from '../bucket.ts';
import { isKey } from '../keys.ts';

/** One page of a listing. */
export interface ListedPage {
  readonly objects: readonly ListedObject[];
  /** The token for the next page; undefined on the last. */
  readonly next: string | undefined;
}

export interface PagedListOptions {
  /** For errors: `listing "…" in s3://…`. */
  readonly action: string;
  readonly signal?: AbortSignal | undefined;
  /** @param token of the previous page; undefined for the first */
  readonly page: (token: string | undefined) => Promise<ListedPage>;
}

/**
 * Lists objects, one page a request. Objects whose keys niche could not have written are left out.
 *
 * @throws NicheError `aborted`; `storage-unavailable` where a page announces another without a
 *   new token: the listing would end early, or never
 */
export async function* listPages({
  action,
  signal,
  page,
}: PagedListOptions): AsyncGenerator<ListedObject, void, undefined> {
  let token: string | undefined;
  do {
    throwIfAborted(signal, action);
    const { objects, next } = await page(token);
    for (const object of objects) if (isKey(object.key)) yield object;
    if (next === '' || (next !== undefined && next === token)) {
      throw new NicheError(
        'storage-unavailable',
        `${action} failed: the storage announces another page without a token for it`,
      );
    }
    token = next;
  } while (token !== undefined);
}
