import type { Lookups } from '../../core/cache/stage/lookups.ts';
import { isLarge } from '../../core/cache/stage/batcher.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';

/** Why a path is not staged. */
export type Skip = 'present' | 'upstream' | 'excluded' | 'conflict';

export interface Selection {
  /** The paths to stage, references first. */
  readonly wanted: readonly PathInfo[];
  readonly skipped: readonly { readonly info: PathInfo; readonly why: Skip }[];
}

/** Decides which paths the cache lacks. It remembers the excluded ones between calls. */
export interface Selector {
  select(infos: readonly PathInfo[]): Promise<Selection>;
}

/** @param exclude paths that match are left out, and so are the paths that refer to them */
export function createSelector(lookups: Lookups, exclude: RegExp | null): Selector {
  const excluded = new Set<string>();

  function isExcluded(info: PathInfo): boolean {
    const isOut =
      exclude?.test(info.path) === true ||
      info.references.some((reference) => excluded.has(reference));
    if (isOut) excluded.add(info.path);
    return isOut;
  }

  return {
    async select(infos) {
      const wanted: PathInfo[] = [];
      const skipped: { info: PathInfo; why: Skip }[] = [];
      const candidates: PathInfo[] = [];
      for (const info of referencesFirst(infos)) {
        if (isExcluded(info)) skipped.push({ info, why: 'excluded' });
        else candidates.push(info);
      }
      const places = await lookups.findPaths(candidates);
      for (const [index, info] of candidates.entries()) {
        const why = places[index] ?? null;
        if (why === null) wanted.push(info);
        else skipped.push({ info, why });
      }
      return { wanted, skipped };
    },
  };
}

/** Returns the largest paths first, since they take longest; then the small ones, references first. */
export function stagingOrder(infos: readonly PathInfo[]): PathInfo[] {
  const large = infos.filter(isLarge).sort((one, other) => other.narSize - one.narSize);
  const small = infos.filter((info) => !isLarge(info));
  return [...large, ...referencesFirst(small)];
}

/** Returns the same infos, each after its references among them. */
export function referencesFirst<T extends PathInfo>(infos: readonly T[]): T[] {
  const byPath = new Map(infos.map((info) => [info.path, info]));
  const ordered: T[] = [];
  const visit = (root: T): void => {
    // An explicit stack: a closure may be deeper than the call stack.
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
