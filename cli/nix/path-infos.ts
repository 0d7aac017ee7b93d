import { setImmediate } from 'node:timers/promises';

import { isNicheError, toError } from '../../core/errors.ts';
import type { PathInfos } from '../../core/nix/path-info.ts';
import type { Nix } from './nix.ts';
import { queryPathInfos } from './query.ts';
import type { QueryOptions } from './query.ts';

/**
 * What the store knows of what `paths` names, as it comes: each path once, those that are not valid
 * too.
 *
 * @throws what {@link queryPathInfos} and `paths` throw; when `paths` is aborted it ends
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
    const { valid, invalid } = await queryPathInfos(nix, fresh, options);
    const news = valid.filter(({ path }) => !known.has(path));
    for (const path of [...news.map((info) => info.path), ...invalid]) known.add(path);
    yield { valid: news, invalid };
  }
}

/** What has come of `source` since the last group was taken: one question to nix for many paths. */
async function* grouped(source: AsyncIterable<string>): AsyncGenerator<string[]> {
  let gathered: string[] = [];
  const reader: { done: boolean; failure?: Error } = { done: false };
  let wake = Promise.withResolvers<undefined>();
  const reading = (async () => {
    try {
      for await (const item of source) {
        gathered.push(item);
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
    // What comes together is asked together: the first item wakes before the next one is read.
    await setImmediate();
    wake = Promise.withResolvers<undefined>();
    const group = gathered;
    gathered = [];
    if (group.length > 0) yield group;
    // Whatever came while the group was worked on is there already.
    if (gathered.length > 0) wake.resolve(undefined);
    else if (reader.done) break;
  }
  await reading;
  if (reader.failure && !isNicheError(reader.failure, 'aborted')) throw reader.failure;
}
