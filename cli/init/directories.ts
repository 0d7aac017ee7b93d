import { chmodSync, mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { receiptsPrefix, stagingPrefix } from '../../core/cache/layout.ts';
import { NicheError } from '../../core/errors.ts';
import { fileError } from '../../core/storage/file/errors.ts';
import { temporaryFolder } from '../../core/storage/file/root.ts';
import { isErrno } from '../../core/util/errno.ts';
import { makeFolders } from '../../core/util/folders.ts';
import { shellWord } from '../../core/util/shell.ts';
import type { RootUrls } from './roots.ts';

const stickyBit = 0o1000;
/** Setgid: what users create belongs to the folder's group. Sticky: each deletes only their own. */
const sharedMode = 0o3700;
const privateMode = 0o700;
const othersMayWrite = 0o022;

/**
 * Creates the directories of a cache, with the folders above them. Private and staging directories of
 * their own are closed to other users. Existing directories keep their modes.
 *
 * @throws NicheError `storage-…` when one cannot be created
 */
export function makeDirectories({ storage, staging, private: own }: RootUrls): void {
  if (storage.startsWith('file:')) make(storage, makeFolders);
  if (own.startsWith('file:') && own !== storage && own !== staging) {
    make(own, (folder) => {
      makeFolder(folder, privateMode);
    });
  }
  if (staging.startsWith('file:') && staging !== storage) make(staging, makeStagingFolder);
}

function make(url: string, create: (folder: string) => void): void {
  const folder = fileURLToPath(url);
  try {
    create(folder);
  } catch (cause) {
    if (isErrno(cause, 'EEXIST')) {
      const message = `creating the directory ${folder}: expected a directory, got a file`;
      throw new NicheError('usage', message, { cause });
    }
    throw fileError(cause, `creating the directory ${folder}`);
  }
}

/**
 * Creates the folders that users share. In a shared directory they have to belong to its owner: with
 * a folder of another user, that user would decide who can upload.
 */
function makeStagingFolder(folder: string): void {
  makeFolder(folder, sharedMode);
  const mode = statSync(folder).mode & 0o7777;
  if ((mode & stickyBit) === 0) return;
  for (const name of sharedFolders) makeFolder(path.join(folder, name), mode);
  // Only the publisher writes receipts.
  makeFolder(path.join(folder, receiptsPrefix), mode & ~(othersMayWrite | stickyBit));
}

const sharedFolders = [temporaryFolder, stagingPrefix.slice(0, -1)];

function makeFolder(folder: string, mode: number): void {
  if (statSync(folder, { throwIfNoEntry: false })) return;
  makeFolders(path.dirname(folder));
  // Closed until it has its mode: mkdir applies the umask, and ignores the setgid bit.
  mkdirSync(folder, privateMode);
  chmodSync(folder, mode);
}

/**
 * Returns how to let a group upload to a staging directory of its own; null for other roots, and if
 * other users can upload already.
 */
export function groupAdvice({ storage, staging }: RootUrls): string | null {
  if (!staging.startsWith('file:') || staging === storage) return null;
  const folder = fileURLToPath(staging);
  if ((statSync(folder).mode & othersMayWrite) !== 0) return null;
  const words = (names: readonly string[]): string =>
    names.map((name) => shellWord(path.join(folder, name))).join(' ');
  return `Only you can upload to ${folder}. To let the users of a group upload, run:
  chgrp -R GROUP ${shellWord(folder)}
  chmod 3770 ${words(['', ...sharedFolders])}
  chmod 2750 ${words([receiptsPrefix.slice(0, -1)])}
The publisher deletes what they staged, so it must run as root.`;
}
