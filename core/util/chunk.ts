export interface ChunkLimits<T> {
  readonly maxItems: number;
  /** The largest sum of `sizeOf` in a chunk. */
  readonly maxSize: number;
  readonly sizeOf: (item: T) => number;
}

/**
 * Splits `items` into consecutive chunks within `limits`. An item that exceeds `maxSize` alone gets a
 * chunk of its own.
 */
export function splitIntoChunks<T>(items: readonly T[], limits: ChunkLimits<T>): T[][] {
  const { maxItems, maxSize, sizeOf } = limits;
  const chunks: T[][] = [];
  let chunk: T[] = [];
  let size = 0;
  for (const item of items) {
    const itemSize = sizeOf(item);
    if (chunk.length > 0 && (chunk.length === maxItems || size + itemSize > maxSize)) {
      chunks.push(chunk);
      chunk = [];
      size = 0;
    }
    chunk.push(item);
    size += itemSize;
  }
  return chunk.length > 0 ? [...chunks, chunk] : chunks;
}
