import type { Lookups } from '../../core/cache/stage/lookups.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';

/** Why a path need not be staged, or must not be. */
export type Skip = 'present' | 'upstream' | 'excluded' | 'conflict';

export interface Selection {
  /** To be staged, references before what refers to them. */
  readonly wanted: readonly PathInfo[];
  readonly skipped: readonly { readonly info: PathInfo; readonly why: Skip }[];
}

/** Decides which paths of this machine the cache lacks. It remembers what it has excluded. */
export interface Selector {
  /** @throws what storage and upstreams throw */
  select(infos: readonly PathInfo[]): Promise<Selection>;
}

/** @param exclude paths that match stay out, and so does whatever refers to them */
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
