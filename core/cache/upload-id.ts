import { randomBytes } from 'node:crypto';

/**
 * Returns a new UUIDv7 (RFC 9562 §5.7). It starts with 48 bits of Unix milliseconds, so ids sort by
 * time.
 */
export function newUploadId(now: Date = new Date(), random: Buffer = randomBytes(10)): string {
  const bytes = Buffer.alloc(16);
  bytes.writeUIntBE(now.getTime(), 0, 6);
  random.copy(bytes, 6, 0, 10);
  bytes.writeUInt8(0x70 | (bytes.readUInt8(6) & 0x0f), 6);
  bytes.writeUInt8(0x80 | (bytes.readUInt8(8) & 0x3f), 8);
  const hex = bytes.toString('hex');
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20),
  ].join('-');
}

/** Returns the start time that an upload's id contains. */
export function uploadTime(upload: string): Date {
  return new Date(Number.parseInt(upload.replaceAll('-', '').slice(0, 12), 16));
}
