/**
 * Returns the bytes of a padded, canonical base64 text; null for any other text. Node's own decoder
 * skips unknown characters and ignores everything after the padding.
 */
export function decodeBase64(text: string): Uint8Array | null {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? new Uint8Array(bytes) : null;
}

/** Returns padded base64 in the standard alphabet. */
export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}
