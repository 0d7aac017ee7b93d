import { mapConcurrent } from '../../core/concurrency.ts';
import type { OpenCache } from '../../core/cache/open-cache.ts';
import { findNarInfo, isSame } from '../../core/cache/presence.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import { storeHash } from '../../core/nix/store-path.ts';

/** Why a path need not be staged, or must not be. */
export type Skip = 'present' | 'upstream' | 'excluded' | 'conflict';

export interface Selection {
  /** To be staged, references before what refers to them. */
  readonly wanted: readonly PathInfo[];
  readonly skipped: readonly { readonly info: PathInfo; readonly why: Skip }[];
}

const lookupsAtOnce = 16;

/** Decides which paths of this machine the cache lacks. It remembers what it has excluded. */
export interface Selector {
  /** @throws what storage and upstreams throw */
  select(infos: readonly PathInfo[]): Promise<Selection>;
}

/** @param exclude paths that match stay out, and so does whatever refers to them */
export function createSelector(cache: OpenCache, exclude: RegExp | null): Selector {
  const excluded = new Set<string>();

  function isExcluded(info: PathInfo): boolean {
    const isOut =
      exclude?.test(info.path) === true ||
      info.references.some((reference) => excluded.has(reference));
    if (isOut) excluded.add(info.path);
    return isOut;
  }

  async function whyNot(info: PathInfo): Promise<Skip | null> {
    if (excluded.has(info.path)) return 'excluded';
    // A signature of an upstream's key says that the upstream has it; no request is needed.
    if (cache.upstreams.verified(info).length > 0) return 'upstream';
    const hash = storeHash(info.path);
    const here = await findNarInfo(cache.public, hash, cache.config.storeDir);
    if (here) return isSame(here, info) ? 'present' : 'conflict';
    const there = await cache.upstreams.find(hash);
    return there && isSame(there, info) ? 'upstream' : null;
  }

  return {
    async select(infos) {
      const ordered = referencesFirst(infos);
      for (const info of ordered) isExcluded(info);
      const reasons = await mapConcurrent(ordered, lookupsAtOnce, whyNot);
      const wanted: PathInfo[] = [];
      const skipped: { info: PathInfo; why: Skip }[] = [];
      for (const [index, info] of ordered.entries()) {
        const why = reasons[index] ?? null;
        if (why === null) wanted.push(info);
        else skipped.push({ info, why });
      }
      return { wanted, skipped };
    },
  };
}

/** The same path infos, each after those of its references that are among them. */
export function referencesFirst<T extends PathInfo>(infos: readonly T[]): T[] {
  const byPath = new Map(infos.map((info) => [info.path, info]));
  const ordered: T[] = [];
  const visit = (root: T): void => {
    // An explicit stack: closures are deeper than the call stack may be.
    const stack: { info: T; entered: boolean }[] = [{ info: root, entered: false }];
    for (let top = stack.pop(); top; top = stack.pop()) {
      if (top.entered) {
        ordered.push(top.info);
        continue;
      }
      if (!byPath.delete(top.info.path)) continue;
      stack.push({ info: top.info, entered: true });
      for (const reference of top.info.references) {
        const info = byPath.get(reference);
        if (info) stack.push({ info, entered: false });
      }
    }
  };
  for (const info of infos) visit(info);
  return ordered;
}
