import { NicheError } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { ObjectInfo } from '../bucket.ts';
import { isKey } from '../keys.ts';

/** One page of a listing. */
export interface ListedPage {
  readonly objects: readonly ObjectInfo[];
  /** What the next page is asked for by; undefined for the last. */
  readonly next: string | undefined;
}

export interface PagedListOptions {
  /** What is done, for errors: `listing "…" in s3://…`. */
  readonly action: string;
  readonly signal?: AbortSignal | undefined;
  /** @param token of the page before, undefined for the first */
  readonly page: (token: string | undefined) => Promise<ListedPage>;
}

/**
 * A listing, a page a request. What others keep there under no key of ours is left out.
 *
 * @throws NicheError `aborted`; `storage-unavailable` where a page does not say how to go on, as to end
 *   there would pass for a whole listing, and to ask again would never end
 */
export async function* listPages({
  action,
  signal,
  page,
}: PagedListOptions): AsyncGenerator<ObjectInfo, void, undefined> {
  let token: string | undefined;
  do {
    throwIfAborted(signal, action);
    const { objects, next } = await page(token);
    for (const object of objects) if (isKey(object.key)) yield object;
    if (next === '' || (next !== undefined && next === token)) {
      throw new NicheError(
        'storage-unavailable',
        `${action} failed: the storage says that there is more and not where it goes on`,
      );
    }
    token = next;
  } while (token !== undefined);
}
