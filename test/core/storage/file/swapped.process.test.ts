import assert from 'node:assert/strict';
import fs from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { after, describe, it, mock } from 'node:test';
import { readObject } from '../../../support/assert/bytes.ts';

/** Runs just before the file of an object is opened, linked or removed. */
let beforeUse = (): void => undefined;

// Patch before the bucket is loaded: it keeps references to these functions.
const real = { ...fs, unlink: fs.promises.unlink };
const isObject = (path: unknown): boolean => String(path).endsWith('/object');
mock.method(fs, 'openSync', (...args: Parameters<typeof fs.openSync>) => {
  if (isObject(args[0])) beforeUse();
  return real.openSync(...args);
});
mock.method(fs, 'linkSync', (from: string, to: string) => {
  if (isObject(to)) beforeUse();
  real.linkSync(from, to);
});
mock.method(fs.promises, 'unlink', (path: string) => {
  if (isObject(path)) beforeUse();
  return real.unlink(path);
});
syncBuiltinESMExports();
after(() => {
  mock.restoreAll();
});
const { temporaryFileBucket } = await import('../../../support/buckets/file-bucket.ts');

const body = Buffer.from('theirs');

describe(
  'a folder that its owner replaces with a link at the last moment',
  { skip: process.platform !== 'linux' },
  () => {
    const uses = {
      'a read': { key: 'staging/one/object', left: ['object'] },
      'a deletion': { key: 'staging/one/object', left: [] },
      'a creation': { key: 'staging/one/new/object', left: ['new', 'object'] },
    };
    for (const [use, { key, left }] of Object.entries(uses)) {
      it(`does not lead ${use} out of the bucket`, async (context) => {
        const { bucket, directory, close } = await temporaryFileBucket();
        context.after(close);
        const outside = await temporaryFileBucket();
        context.after(outside.close);
        context.after(() => (beforeUse = () => undefined));
        await writeFile(join(outside.directory, 'object'), 'secret');
        await bucket.put('staging/one/object', body);
        await bucket.put('staging/one/new/other', body);
        await bucket.delete(use === 'a creation' ? [] : ['staging/one/new/other']);
        beforeUse = () => {
          beforeUse = () => undefined;
          fs.renameSync(join(directory, 'staging/one'), join(directory, 'staging/moved'));
          fs.symlinkSync(outside.directory, join(directory, 'staging/one'));
        };
        if (use === 'a read') assert.deepEqual(await readObject(bucket, key), body);
        else if (use === 'a deletion') await bucket.delete([key]);
        else await bucket.put(key, body, { ifAbsent: true });
        assert.deepEqual(await readdir(outside.directory), ['object']);
        assert.deepEqual((await readdir(join(directory, 'staging/moved'))).sort(), left);
      });
    }
  },
);
