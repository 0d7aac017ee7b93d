import { dirname } from 'node:path';
import { createCoalescer } from '../../util/concurrency.ts';
import type { PutOutcome } from '../bucket.ts';
import type { FileRoot } from './root.ts';
import { syncFolder } from './fsync.ts';
import {
  discardQuietly,
  reveal,
  syncTemporary,
  writeTemporary,
  type Temporary,
} from './temporary.ts';

/** A small object to store. */
interface SmallPut {
  readonly key: string;
  /** The file of `key`. */
  readonly path: string;
  readonly body: Uint8Array;
  readonly ifAbsent: boolean;
  /** Whether it must survive a loss of power. */
  readonly durable: boolean;
}

interface Member extends SmallPut {
  readonly root: FileRoot;
  readonly settled: PromiseWithResolvers<PutOutcome>;
}

const put = createCoalescer(putGroup);

/**
 * Stores a small object together with others of this process, in any bucket. Objects that arrive
 * while one group is being flushed form the next group. Concurrent syncs share the disk's journal, so
 * a hundred take hardly longer than one; a file that is created during a sync has to wait for it.
 *
 * @returns once it is visible, and on the disk if it is durable
 */
export function putInGroup(root: FileRoot, object: SmallPut): Promise<PutOutcome> {
  const settled = Promise.withResolvers<PutOutcome>();
  put({ ...object, root, settled });
  return settled.promise;
}

/**
 * Implements {@link Bucket.createInOrder} for a directory. All objects are on the disk before the
 * first is visible, so any number of them waits for the disk only twice.
 */
export async function createInOrder(
  root: FileRoot,
  objects: readonly { readonly key: string; readonly path: string; readonly body: Uint8Array }[],
): Promise<PutOutcome[]> {
  const written: { key: string; path: string; temporary: Temporary }[] = [];
  const outcomes: PutOutcome[] = [];
  const folders = new Set<string>();
  try {
    for (const { key, path, body } of objects) {
      written.push({ key, path, temporary: await writeTemporary(root, body) });
    }
    await Promise.all(written.map(({ temporary }) => syncTemporary(temporary)));
    for (const { key, path, temporary } of written) {
      folders.add(dirname(path));
      const outcome = await reveal(root, temporary, key, true);
      outcomes.push(outcome);
      if (outcome === 'exists') break;
    }
  } finally {
    for (const { temporary } of written.slice(outcomes.length)) discardQuietly(temporary);
    await Promise.all([...folders].map(syncFolder));
  }
  return outcomes;
}

/** Settles each member on its own; never throws. */
async function putGroup(group: readonly Member[]): Promise<void> {
  const written: { member: Member; temporary: Temporary }[] = [];
  for (const member of group) {
    try {
      written.push({ member, temporary: await writeTemporary(member.root, member.body) });
    } catch (error) {
      member.settled.reject(error);
    }
  }
  const synced = await Promise.allSettled(
    written.map(async ({ member, temporary }) => {
      if (member.durable) await syncTemporary(temporary);
    }),
  );
  const revealed: { member: Member; outcome: PutOutcome }[] = [];
  for (const [index, { member, temporary }] of written.entries()) {
    try {
      const sync = synced[index];
      if (sync?.status === 'rejected') throw sync.reason;
      const { root, key, ifAbsent } = member;
      revealed.push({ member, outcome: await reveal(root, temporary, key, ifAbsent) });
    } catch (error) {
      discardQuietly(temporary);
      member.settled.reject(error);
    }
  }
  const folders = new Set<string>();
  for (const { member } of revealed) if (member.durable) folders.add(dirname(member.path));
  const failures = new Map<string, unknown>();
  await Promise.all(
    [...folders].map((folder) =>
      syncFolder(folder).catch((error: unknown) => failures.set(folder, error)),
    ),
  );
  for (const { member, outcome } of revealed) {
    const folder = dirname(member.path);
    if (member.durable && failures.has(folder)) member.settled.reject(failures.get(folder));
    else member.settled.resolve(outcome);
  }
}
