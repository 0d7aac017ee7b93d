/**
 * Yields the items of many owners in turns: the first of each owner, then the next of each. So an
 * owner with many items delays the others by one item a turn. The groups are read as the turns come.
 */
export function* takeTurns<T>(groups: Iterable<Iterable<T>>): Generator<T> {
  let unfinished = Array.from(groups, (group) => group[Symbol.iterator]());
  while (unfinished.length > 0) {
    const rest: typeof unfinished = [];
    for (const group of unfinished) {
      const next = group.next();
      if (next.done === true) continue;
      rest.push(group);
      yield next.value;
    }
    unfinished = rest;
  }
}

/**
 * Returns the items in their order, beginning at any of them. Work that often ends early then reaches
 * each item in the end.
 *
 * @param random returns a number from 0 to below 1
 */
export function startAnywhere<T>(items: readonly T[], random: () => number): T[] {
  const start = Math.floor(random() * items.length);
  return [...items.slice(start), ...items.slice(0, start)];
}
