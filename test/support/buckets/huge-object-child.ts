/**
 * Stores an object of `bytes` bytes in the bucket at a URL and reads it back, in a separate process, to
 * measure its memory. Prints JSON.
 */
import { createHash } from 'node:crypto';
import { openBucket } from '../../../core/storage/open/open-bucket.ts';
import { patternBytes } from '../assert/bytes.ts';

const [url = '', size = '0'] = process.argv.slice(2);
const bytes = Number(size);
const bucket = openBucket(url);
const chunk = patternBytes(2 ** 20);

const written = createHash('sha256');
const upload = await bucket.upload('huge', { size: bytes });
for (let left = bytes; left > 0; left -= chunk.length) {
  const piece = chunk.subarray(0, Math.min(left, chunk.length));
  written.update(piece);
  await upload.write(piece);
}
const outcome = await upload.commit({ ifAbsent: true });

const read = createHash('sha256');
let readBytes = 0;
const object = await bucket.get('huge');
for await (const piece of object?.body ?? []) {
  read.update(piece);
  readBytes += piece.length;
}
await bucket.delete(['huge']);

console.log(
  JSON.stringify({
    outcome,
    readBytes,
    isSame: read.digest('hex') === written.digest('hex'),
    // In KiB on Linux, as from getrusage.
    peakBytes: process.resourceUsage().maxRSS * 1024,
  }),
);
