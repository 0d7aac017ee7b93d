import assert from 'node:assert/strict';
import fs from 'node:fs';
import { readdir } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { after, describe, it, mock } from 'node:test';
import { readObject } from '../../../support/assert/bytes.ts';

/** Runs between the look at an object's etag and the replacement of the object. */
let beforeRename = (): void => undefined;

// Patch before the bucket is loaded: it keeps references to these functions.
const { renameSync } = fs;
mock.method(fs, 'renameSync', (from: string, to: string) => {
  beforeRename();
  renameSync(from, to);
});
syncBuiltinESMExports();
after(() => {
  mock.restoreAll();
});
const { runFileBucketChildSync, temporaryFileBucket } =
  await import('../../../support/buckets/file-bucket.ts');

describe('a replacement in a directory excludes other processes', () => {
  for (const operation of ['delete', 'replace'] as const) {
    it(`which ${operation} the object meanwhile`, async (context) => {
      const { bucket, directory, close } = await temporaryFileBucket();
      context.after(close);
      context.after(() => (beforeRename = () => undefined));
      await bucket.put('object', Buffer.from('first'));
      const { etag } = (await bucket.head('object'))!;
      let printed = '';
      beforeRename = () => {
        beforeRename = () => undefined;
        // It gives up soon, since this process cannot go on before it ends.
        printed = runFileBucketChildSync('meanwhile', directory, operation, etag);
      };
      assert.equal(await bucket.replace('object', Buffer.from('second'), etag), 'replaced');
      assert.equal(printed, 'aborted\n');
      assert.equal(String(await readObject(bucket, 'object')), 'second');
      assert.deepEqual(await readdir(join(directory, '.niche-tmp')), []);
    });
  }
});
