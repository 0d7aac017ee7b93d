/**
 * Stages a large NAR in a bucket as a client does, in a process that can be killed.
 * usage: stage-large-child.ts <bucket URL> <local database> <bytes after which it stalls, or 0>
 */
import { openLocalDatabase } from '../../../core/cache/local/database.ts';
import { createStager } from '../../../core/cache/stage/stager.ts';
import { newUploadId } from '../../../core/cache/upload-id.ts';
import { createUploadJournal } from '../../../core/cache/local/upload-journal.ts';
import { defaultStoreDir } from '../../../core/nix/store-path.ts';
import { openBucket } from '../../../core/storage/open/open-bucket.ts';
import { identifyProcess, isAlive } from '../../../core/util/process-identity.ts';
import type { ProcessIdentity } from '../../../core/util/process-identity.ts';
import { largeTestPath } from '../cache/paths.ts';

const [url = '', file = '', stall = '0'] = process.argv.slice(2);
const { info, nar } = await largeTestPath();
const bucket = openBucket(url);
let sent = 0;

async function* chunks(): AsyncIterable<Uint8Array> {
  for (let start = 0; start < nar.length; start += 2 ** 20) {
    if (Number(stall) > 0 && start >= Number(stall)) {
      process.stdout.write('stalled\n');
      await new Promise((resolve) => setTimeout(resolve, 3_600_000));
    }
    yield nar.subarray(start, start + 2 ** 20);
  }
}

const upload = newUploadId();
const stager = createStager({
  bucket: {
    ...bucket,
    async resumeUpload(key, token, options) {
      const resumed = (await bucket.resumeUpload?.(key, token, options)) ?? null;
      if (resumed) sent -= resumed.storedBytes;
      return resumed;
    },
  },
  upload,
  storeDir: defaultStoreDir,
  journal: createUploadJournal(await openLocalDatabase(file), {
    self: JSON.stringify(identifyProcess(process.pid)),
    hasEnded: (owner) => isAlive(JSON.parse(owner) as ProcessIdentity) === false,
  }),
  onStaged(id) {
    sent += nar.length;
    process.stdout.write(`${JSON.stringify({ id, upload, sent })}\n`);
  },
  onFailed(_, error) {
    throw error;
  },
});
stager.addPath({ info, openNar: chunks });
await stager.finish();
