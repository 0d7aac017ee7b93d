import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { maxGitTreeBytes } from '../../../core/limits.ts';
import { createGitHasher } from '../../../core/nix/git-hash.ts';
import { createNarParser } from '../../../core/nix/nar-parser.ts';
import type { NarNode } from '../../../core/nix/nar-writer.ts';
import { refuses } from '../../support/assert/refuses.ts';
import { gitDigest, treeNar } from '../../support/cache/paths.ts';

type Tree = string | { readonly run: string } | { readonly link: string } | Directory;
interface Directory {
  readonly dir: Readonly<Record<string, Tree>>;
}

function toNode(tree: Tree): NarNode {
  if (typeof tree === 'string') return file(tree, false);
  if ('run' in tree) return file(tree.run, true);
  if ('link' in tree) return { type: 'symlink', target: tree.link };
  return {
    type: 'directory',
    entries: () => Object.entries(tree.dir).map(([name, entry]) => [name, toNode(entry)] as const),
  };
}

function file(contents: string, executable: boolean): NarNode {
  const bytes = Buffer.from(contents);
  return { type: 'regular', executable, size: bytes.length, contents: () => bytes };
}

/** Trees of Nix's tests/functional/git-hashing, with their hashes there. */
const vectors: readonly (readonly [Tree, string, string])[] = [
  [
    'Hello World\n',
    '557db03de997c86a4a028e1ebd3a1ceb225be238',
    '7c5c8610459154bdde4984be72c48fb5d9c1c4ac793a6b5976fe38fd1b0b1284',
  ],
  [
    { dir: { hello: 'Hello World\n', executable: { run: 'Run Hello World\n' } } },
    'e5c0a11a556801a5c9dcf330ca9d7e2c572697f4',
    'cd79952f42462467d0ea574b0283bb6eb77e15b2b86891e29f2b981650365474',
  ],
  [
    { dir: { hello: 'Hello World!\n' } },
    '8b8e43b937854f4083ea56777821abda2799e850',
    '399d851c74ceac2c2b61b53b13dcf5e88df3b6135c7df1f248a323c3c2f9aa78',
  ],
  [
    {
      dir: {
        dir: { dir: { file: 'Hello World!\n', executable: { run: 'Run Hello World!\n' } } },
      },
    },
    'f227adfaf60d2778aabbf93df6dd061272d2dc85',
    'd3ae8fc87e76b9b871bd06a58c925c5fb5f83b5393f9f58e4f6dba3f59470289',
  ],
  [
    { dir: { dir: { dir: { file: '', symlink: { link: './hello/world.txt' } } } } },
    '06f3e789820fc488d602358f03e3a1cbf993bf33',
    '8c090dd057e8e01ffe1fec24a3133dfe52ba4eda822e67ee7fefc2af7c6a2906',
  ],
  // The empty tree, as in Nix's src/libutil-tests/git.cc.
  [
    { dir: {} },
    '4b825dc642cb6eb9a060e54bf8d69288fbee4904',
    '6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321',
  ],
];

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('trees of the tests of Nix have the hashes there', async () => {
  for (const [tree, sha1, sha256] of vectors) {
    const nar = await treeNar(toNode(tree));
    assert.equal(hex(gitDigest(nar, 'sha1')), sha1);
    assert.equal(hex(gitDigest(nar, 'sha256')), sha256);
  }
});

test('the hash is the same wherever the NAR is cut', async () => {
  for (const [tree, sha1] of vectors) {
    const nar = await treeNar(toNode(tree));
    for (let size = 1; size < 40; size += 1) {
      const hasher = createGitHasher('sha1');
      const parser = createNarParser(hasher);
      for (let at = 0; at < nar.length; at += size) parser.write(nar.subarray(at, at + size));
      parser.end();
      assert.equal(hex(hasher.digest()), sha1);
    }
  }
});

/** Names around those of directories in Git's order, in which a directory ends in a slash. */
const ordered: Directory = {
  dir: {
    a: { dir: { x: '1' } },
    'a!': { dir: { x: '2', y: { dir: { z: '' } } } },
    'a!b': '3',
    'a!-': { dir: { x: '' } },
    'a-b': { dir: { x: '4' } },
    'a-b.c': '5',
    'a.b': { run: '6' },
    'a.b.c': { dir: { b: '', 'b-': '', 'b.': { dir: { c: '' } } } },
    a0: '7',
    ab: { dir: { x: '8' } },
    'ab-': { link: 'a' },
    é: { dir: { x: '' } },
    'é-': '9',
  },
};

test('directories have the place that real Git gives them', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'niche-git-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', folder, '-c', 'core.autocrlf=false', ...args], {
      env: { PATH: process.env['PATH'], HOME: folder, GIT_CONFIG_NOSYSTEM: '1' },
    })
      .toString()
      .trim();
  async function write(tree: Tree, at: string): Promise<void> {
    if (typeof tree === 'string') await writeFile(at, tree);
    else if ('run' in tree) await writeFile(at, tree.run, { mode: 0o755 });
    else if ('link' in tree) await symlink(tree.link, at);
    else {
      await mkdir(at, { recursive: true });
      for (const [name, entry] of Object.entries(tree.dir)) await write(entry, join(at, name));
    }
  }
  git('init', '--quiet');
  await write(ordered, folder);
  git('add', '--all');
  assert.equal(hex(gitDigest(await treeNar(toNode(ordered)), 'sha1')), git('write-tree'));
});

test('directories that are too large are refused', () => {
  const hasher = createGitHasher('sha1');
  hasher.directory?.(Buffer.alloc(0));
  const name = Buffer.alloc(200, 'x');
  const entryBytes = '120000 '.length + name.length + 1 + 20;
  const link = (): void => hasher.symlink?.(name, Buffer.from('target'));
  for (let count = 1; count * entryBytes <= maxGitTreeBytes; count += 1) link();
  refuses('too-large', link);
});
