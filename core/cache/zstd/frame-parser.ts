/** Finds the end of one zstd frame from its headers (RFC 8878 §3.1), without decompressing it. */
export interface FrameParser {
  /** Takes the next bytes. Returns how many of them belong to the frame. */
  take(chunk: Uint8Array): number;
  /** Whether the frame is complete. */
  isDone(): boolean;
  /** The number of blocks so far. */
  blocks(): number;
  /** False for a skippable frame; known once {@link frameKindBytes} were taken. */
  hasContents(): boolean;
}

/** The bytes that show which kind of frame it is; every frame has at least as many. */
export const frameKindBytes = 8;

const magic = 0xfd2fb528;
const skippableMagic = 0x184d2a50;
const dictionaryIdBytes = [0, 1, 2, 4] as const;
const contentSizeBytes = [0, 2, 4, 8] as const;
const checksumBytes = 4;
const reservedBlock = 3;
const rleBlock = 1;

/** @throws Error from `take`, when the bytes are not a zstd frame */
export function createFrameParser(): FrameParser {
  /** The header field that is being collected. */
  const field = Buffer.alloc(frameKindBytes);
  let have = 0;
  let want = frameKindBytes;
  /** Runs once the field has `want` bytes. */
  let read = readStart;
  /** Bytes to skip before the next field. */
  let skip = 0;
  let hasContents = true;
  let hasChecksum = false;
  let isDone = false;
  let blocks = 0;

  function readStart(): void {
    const start = field.readUInt32LE(0);
    if ((start & 0xfffffff0) >>> 0 === skippableMagic) {
      hasContents = false;
      skip = field.readUInt32LE(4);
      finish();
      return;
    }
    if (start !== magic) throw new Error('expected a zstd frame');
    const descriptor = field.readUInt8(4);
    const isSingleSegment = (descriptor & 0x20) !== 0;
    hasChecksum = (descriptor & 0x04) !== 0;
    const sizeFlag = descriptor >> 6;
    const sizeBytes = sizeFlag === 0 && isSingleSegment ? 1 : (contentSizeBytes[sizeFlag] ?? 0);
    const headerBytes =
      (isSingleSegment ? 0 : 1) + (dictionaryIdBytes[descriptor & 3] ?? 0) + sizeBytes;
    // After the shortest header, two bytes of the field already belong to the first block header.
    const early = field.subarray(5 + headerBytes);
    skip = Math.max(0, headerBytes - 3);
    want = 3;
    read = readBlock;
    have = early.length;
    early.copy(field);
  }

  function readBlock(): void {
    const header = field.readUIntLE(0, 3);
    const type = (header >> 1) & 3;
    blocks += 1;
    if (type === reservedBlock) throw new Error('the zstd frame has a block of unknown type');
    skip = type === rleBlock ? 1 : header >> 3;
    if ((header & 1) === 1) {
      if (hasChecksum) skip += checksumBytes;
      finish();
    }
  }

  function finish(): void {
    read = () => (isDone = true);
    want = 0;
  }

  return {
    isDone: () => isDone,
    blocks: () => blocks,
    hasContents: () => hasContents,
    take(chunk) {
      let at = 0;
      for (;;) {
        const passed = Math.min(skip, chunk.length - at);
        skip -= passed;
        at += passed;
        while (have < want && skip === 0 && at < chunk.length) {
          field.writeUInt8(chunk[at] ?? 0, have);
          have += 1;
          at += 1;
        }
        if (isDone || skip > 0 || have < want) return at;
        have = 0;
        read();
      }
    },
  };
}
