import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { parseConfig } from '../../../core/cache/config.ts';
import { createLocalPublisher } from '../../../core/cache/publish/local-publisher.ts';
import { openCache } from '../../../core/cache/open.ts';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { formatHash } from '../../../core/nix/hash.ts';
import { parsePublicKey, verifyFingerprint } from '../../../core/nix/keys.ts';
import { parseNarInfo } from '../../../core/nix/narinfo.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import { secretKeySigner } from '../../../core/signing/secret-key.ts';

/**
 * Reads a cache in a directory as an untrusting client does, and checks the signature, the NAR and the
 * references of each narinfo.
 * @returns its store paths, sorted
 */
export async function assertSound(directory: string): Promise<string[]> {
  const { storeDir, publicKeys } = parseConfig(
    await readFile(join(directory, 'niche.json'), 'utf8'),
    'niche.json',
  );
  const keys = publicKeys.map(parsePublicKey);
  const names = (await readdir(directory)).filter((name) => name.endsWith('.narinfo'));
  const infos = await Promise.all(
    names.map(async (name) =>
      parseNarInfo(await readFile(join(directory, name), 'utf8'), storeDir),
    ),
  );
  const paths = infos.map(({ path }) => path).sort();
  for (const [index, info] of infos.entries()) {
    assert.equal(names[index], `${storeHash(info.path)}.narinfo`);
    const text = fingerprint(info, storeDir);
    const isSigned = info.signatures.some((signature) => verifyFingerprint(text, signature, keys));
    assert.ok(isSigned, `${info.path} carries no signature of the cache`);
    const file = await readFile(join(directory, info.url));
    assert.equal(file.length, info.fileSize, info.url);
    assert.equal(sha256(file), info.fileHash, info.url);
    const nar = info.compression === 'zstd' ? zstdDecompressSync(file) : file;
    assert.equal(nar.length, info.narSize, info.path);
    assert.equal(sha256(nar), info.narHash, info.path);
    for (const reference of info.references) {
      assert.ok(paths.includes(reference), `${info.path} refers to ${reference}, which is missing`);
    }
  }
  return paths;
}

function sha256(bytes: Uint8Array): string {
  return formatHash(
    { algorithm: 'sha256', digest: createHash('sha256').update(bytes).digest() },
    'base32',
  );
}

/** Returns every file below `directory` by its relative path, with its mode, length and SHA-256. */
export async function snapshot(directory: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const file of await filesIn(directory)) {
    const { mode } = await lstat(join(directory, file));
    const bytes = await readFile(join(directory, file));
    found[file] = `${mode.toString(8)} ${bytes.length} ${sha256(bytes)}`;
  }
  return found;
}

/** Returns the files below `directory`, sorted; none if it is missing. */
export async function filesIn(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(
    () => [],
  );
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .sort();
}

/** Returns the objects that are neither published nor records: unfinished work or its remains. */
export async function unfinishedIn(directory: string): Promise<string[]> {
  const files = await filesIn(directory);
  return files.filter((file) => /^(?:staging|attempts|pending|waiting|\.niche-tmp)\//.test(file));
}

/** Sweeps the cache as if `days` had passed. */
export async function sweepIn(directory: string, secretKey: string, days: number): Promise<void> {
  const cache = await openCache(`file://${directory}`);
  const publisher = createLocalPublisher({
    ...cache,
    signers: [secretKeySigner(secretKey)],
    version: 'test',
    now: () => new Date(Date.now() + days * 24 * 3600 * 1000),
  });
  await publisher.sweep();
}
