/** Where one zstd frame ends, by RFC 8878 §3.1: found from its headers, without decompressing. */
export interface FrameWalker {
  /** How many bytes of `chunk`, the next ones, belong to the frame. */
  take(chunk: Uint8Array): number;
  /** Whether the frame is through. */
  isDone(): boolean;
  /** False for a skippable frame, once {@link frameKindBytes} of it are taken. */
  hasContents(): boolean;
}

/** So many bytes tell which kind of frame it is; every frame has them. */
export const frameKindBytes = 8;

const magic = 0xfd2fb528;
const skippableMagic = 0x184d2a50;
const dictionaryIdBytes = [0, 1, 2, 4] as const;
const contentSizeBytes = [0, 2, 4, 8] as const;
const checksumBytes = 4;
const reservedBlock = 3;
const rleBlock = 1;

/** @throws Error from `take`, when the bytes are no zstd frame */
export function createFrameWalker(): FrameWalker {
  const field = Buffer.alloc(frameKindBytes);
  let have = 0;
  /** Bytes of the field that is being collected, and what to do once it is there. */
  let want = frameKindBytes;
  let read = readBeginning;
  /** Bytes to pass over before the next field. */
  let skip = 0;
  let hasContents = true;
  let hasChecksum = false;
  let isDone = false;

  function readBeginning(): void {
    const began = field.readUInt32LE(0);
    if ((began & 0xfffffff0) >>> 0 === skippableMagic) {
      hasContents = false;
      skip = field.readUInt32LE(4);
      finish();
      return;
    }
    if (began !== magic) throw new Error('expected a zstd frame');
    const descriptor = field.readUInt8(4);
    const isSingleSegment = (descriptor & 0x20) !== 0;
    hasChecksum = (descriptor & 0x04) !== 0;
    const sizeFlag = descriptor >> 6;
    const sizeBytes = sizeFlag === 0 && isSingleSegment ? 1 : (contentSizeBytes[sizeFlag] ?? 0);
    const headerBytes =
      (isSingleSegment ? 0 : 1) + (dictionaryIdBytes[descriptor & 3] ?? 0) + sizeBytes;
    // The shortest header leaves two of the field's bytes to the first block's.
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
    if (type === reservedBlock) throw new Error('the zstd frame has a block of no known type');
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
