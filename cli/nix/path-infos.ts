import { setImmediate } from 'node:timers/promises';

import { isNicheError, toError } from '../../core/errors.ts';
import type { PathInfos } from '../../core/nix/path-info.ts';
import type { Nix } from './nix.ts';
import { queryPathInfos } from './query.ts';
import type { QueryOptions } from './query.ts';

/**
 * Yields the infos of `paths` as they come, each path once, including invalid and unreadable ones. It ends when
 * `paths` throws `aborted`.
 *
 * @throws NicheError `nix-failed`, `malformed-path-info`, and the codes of `paths`
 */
export async function* pathInfosOf(
  nix: Nix,
  paths: AsyncIterable<string>,
  options: QueryOptions,
): AsyncGenerator<PathInfos> {
  const known = new Set<string>();
  for await (const group of grouped(paths)) {
    const fresh = group.filter((path) => !known.has(path));
    if (fresh.length === 0) continue;
    const { valid, invalid, unreadable } = await queryPathInfos(nix, fresh, options);
    const isNew = ({ path }: { readonly path: string }): boolean => !known.has(path);
    const news = { valid: valid.filter(isNew), invalid, unreadable: unreadable.filter(isNew) };
    for (const { path } of [...news.valid, ...news.unreadable]) known.add(path);
    for (const path of invalid) known.add(path);
    yield news;
  }
}

/** Yields the items that came since the last group, so that one query covers many paths. */
async function* grouped(source: AsyncIterable<string>): AsyncGenerator<string[]> {
  let waiting: string[] = [];
  const reader: { done: boolean; failure?: Error } = { done: false };
  let wake = Promise.withResolvers<undefined>();
  const reading = (async () => {
    try {
      for await (const item of source) {
        waiting.push(item);
        wake.resolve(undefined);
      }
    } catch (error) {
      reader.failure = toError(error);
    } finally {
      reader.done = true;
      wake.resolve(undefined);
    }
  })();
  for (;;) {
    await wake.promise;
    // Lets items that come together form one group: the first one wakes this loop.
    await setImmediate();
    wake = Promise.withResolvers<undefined>();
    const group = waiting;
    waiting = [];
    if (group.length > 0) yield group;
    // More items may have come while the consumer used the group.
    if (waiting.length > 0) wake.resolve(undefined);
    else if (reader.done) break;
  }
  await reading;
  if (reader.failure && !isNicheError(reader.failure, 'aborted')) throw reader.failure;
}
