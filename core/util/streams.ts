/** Reads `source` to its end and discards the chunks. */
export async function drain(source: AsyncIterable<unknown>): Promise<void> {
  const chunks = source[Symbol.asyncIterator]();
  while ((await chunks.next()).done !== true);
}
