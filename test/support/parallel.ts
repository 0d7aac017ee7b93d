/** Does `work` on each of `items`, `limit` at a time. */
export async function inParallel<Item>(
  limit: number,
  items: Iterable<Item>,
  work: (item: Item) => Promise<unknown>,
): Promise<void> {
  const queue = items[Symbol.iterator]();
  async function drain(): Promise<void> {
    for (let next = queue.next(); next.done !== true; next = queue.next()) await work(next.value);
  }
  await Promise.all(Array.from({ length: limit }, drain));
}
