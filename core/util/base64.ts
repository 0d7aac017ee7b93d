/**
 * The bytes of a padded, canonical base64 text, or null for any other text: Node's own decoder
 * skips what it does not know and stops at the padding, so that what follows would go unseen.
 */
export function decodeBase64(text: string): Uint8Array | null {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? new Uint8Array(bytes) : null;
}

/** Padded base64 in the usual alphabet. */
export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}
