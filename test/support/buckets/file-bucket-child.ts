/**
 * Uses a bucket in a directory from a separate process, for tests of several processes. It imports
 * everything before it drops root, since the checkout may be readable only by root.
 */
import { createInterface } from 'node:readline';
import { isNicheError } from '../../../core/errors.ts';
import { openFileBucket } from '../../../core/storage/file/driver.ts';
import { withLock } from '../../../core/storage/file/lock.ts';
import { fileRoot } from '../../../core/storage/file/root.ts';
import { listKeys, readObject } from '../assert/bytes.ts';

const [task = '', directory = '', id = '', etag = ''] = process.argv.slice(2);
const bucket = openFileBucket(directory);
const unprivilegedId = 65_534;

async function codeOf(action: Promise<unknown>): Promise<string> {
  try {
    await action;
    return 'done';
  } catch (error) {
    return isNicheError(error) ? error.code : String(error);
  }
}

function dropRoot(): void {
  if (process.getuid?.() !== 0) return;
  process.setgid?.(unprivilegedId);
  process.setuid?.(unprivilegedId);
}

/** Prints what an unprivileged owner of the directory can do, as JSON. */
async function owner(): Promise<void> {
  dropRoot();
  const listed: string[] = [];
  const list = async (): Promise<void> => {
    for await (const { key } of bucket.list('staging/')) listed.push(key);
  };
  const put = await codeOf(bucket.put('new', Buffer.from('x'), { ifAbsent: true }));
  const remove = await codeOf(bucket.delete(['object']));
  console.log(JSON.stringify({ put, delete: remove, list: await codeOf(list()), listed }));
}

/** Prints the result of each operation as JSON. */
async function denied(): Promise<void> {
  dropRoot();
  const body = Buffer.from('x');
  console.log(
    JSON.stringify({
      put: await codeOf(bucket.put('new', body)),
      putDeep: await codeOf(bucket.put('new/deep', body, { ifAbsent: true })),
      upload: await codeOf(bucket.upload('new')),
      delete: await codeOf(bucket.delete(['open'])),
      read: await codeOf(readObject(bucket, 'open')),
      readClosed: await codeOf(bucket.get('closed')),
      headInClosedFolder: await codeOf(bucket.head('folder/object')),
      missingInClosedFolder: await codeOf(bucket.get('folder/missing')),
      listClosedFolder: await codeOf(listKeys(bucket, 'folder/')),
      listAll: await codeOf(listKeys(bucket)),
    }),
  );
}

/** Creates keys concurrently with another process, and then adds and deletes in a shared folder. */
async function race(): Promise<void> {
  const created: number[] = [];
  for (let index = 0; index < 100; index += 1) {
    const outcome = await bucket.put(`race/${index}`, Buffer.from(id), { ifAbsent: true });
    if (outcome === 'created') created.push(index);
  }
  for (let index = 0; index < 100; index += 1) {
    const key = `folder/deep/${index % 2}/${id}`;
    await bucket.put(key, Buffer.from(id));
    await bucket.delete([key]);
  }
  console.log(JSON.stringify(created));
}

/** Deletes the keys of each line that it reads, and then prints a line. */
async function deleting(): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    await bucket.delete(line.split(' '));
    console.log('deleted');
  }
}

/** Changes an object for at most a second, and prints the result. */
async function meanwhile(): Promise<void> {
  const signal = AbortSignal.timeout(1_000);
  const change =
    id === 'delete'
      ? bucket.delete(['object'], { signal })
      : bucket.replace('object', Buffer.from('other'), etag, { signal });
  console.log(await codeOf(change));
}

/** Prints a line while it holds the lock of an object, and then waits to be killed. */
async function locking(): Promise<void> {
  await withLock({ root: fileRoot(directory), key: 'object', action: 'testing' }, () => {
    console.log('locked');
    return new Promise(() => setInterval(() => undefined, 60_000));
  });
}

/** Prints a line once it has written much, and then waits to be killed. */
async function unfinished(): Promise<void> {
  const upload = await bucket.upload('nar/unfinished');
  for (let written = 0; written < 4; written += 1) await upload.write(Buffer.alloc(2 ** 20, 1));
  console.log('written');
  setInterval(() => undefined, 60_000);
}

const tasks = new Map([
  ['owner', owner],
  ['deleting', deleting],
  ['denied', denied],
  ['locking', locking],
  ['meanwhile', meanwhile],
  ['race', race],
  ['unfinished', unfinished],
]);
await tasks.get(task)?.();
