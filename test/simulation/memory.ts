/** Entries are kept up to this number, and then all dropped. */
const maxEntries = 20_000;

/**
 * Returns a function that computes what depends only on a text once. The schedules of a scenario write
 * the same few texts, and parsing them again would take most of the time.
 */
export function createMemory<T>(): (text: string, compute: () => T) => T {
  const known = new Map<string, T>();
  return (text, compute) => {
    const before = known.get(text);
    if (before !== undefined) return before;
    if (known.size >= maxEntries) known.clear();
    const value = compute();
    known.set(text, value);
    return value;
  };
}
