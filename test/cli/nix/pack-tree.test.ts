import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { packTree } from '../../../cli/nix/pack-tree.ts';
import { isNicheError } from '../../../core/errors.ts';
import type { NicheErrorCode } from '../../../core/errors.ts';
import { createNarParser } from '../../../core/nix/nar-parser.ts';
import { availableNix, requireNix } from '../../support/lab/nix-lab.ts';

const needsNix = (context: TestContext): boolean => requireNix(context) !== null;

async function packed(path: string, options = {}): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of packTree(path, options)) {
    assert.ok(chunk.length > 0);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const refused = async (
  code: NicheErrorCode,
  nar: Promise<unknown>,
  about: RegExp,
): Promise<void> => {
  await assert.rejects(nar, (error) => {
    assert.ok(isNicheError(error, code), String(error));
    assert.match(error.message, about);
    return true;
  });
};

/** Returns Nix's dump, independent of its settings. */
function dumped(path: string, caseHack = false): Buffer {
  const args = ['--option', 'use-case-hack', String(caseHack), '--dump', path];
  const nixStore = join(availableNix().at(-1)?.bin ?? '', 'nix-store');
  return execFileSync(nixStore, args, { maxBuffer: 2 ** 28 });
}

let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'niche-pack-'));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

let made = 0;
const makeFolder = (): string => {
  const path = join(folder, String(made++));
  mkdirSync(path);
  return path;
};
const fill = (size: number): Buffer => {
  const bytes = Buffer.alloc(size);
  for (let index = 0; index < size; index++) bytes[index] = (index * 31) & 0xff;
  return bytes;
};

describe('packTree writes the same bytes as nix-store --dump', () => {
  test('sizes around every boundary', async (context) => {
    if (!needsNix(context)) return;
    const tree = makeFolder();
    const borders = [8, 4096, 64 * 1024, 256 * 1024, 320 * 1024, 1024 * 1024, 2048 * 1024];
    for (const border of borders) {
      for (const size of [border - 1, border, border + 1]) {
        writeFileSync(join(tree, `size-${size}`), fill(size));
      }
    }
    writeFileSync(join(tree, 'empty'), '');
    assert.ok((await packed(tree)).equals(dumped(tree)));
  });

  test('modes, symlinks, odd names', async (context) => {
    if (!needsNix(context)) return;
    const tree = makeFolder();
    for (const mode of [0o400, 0o444, 0o500, 0o555, 0o644, 0o655, 0o700, 0o4755]) {
      const path = join(tree, `mode-${mode.toString(8)}`);
      writeFileSync(path, 'x');
      chmodSync(path, mode);
    }
    mkdirSync(join(tree, 'empty'));
    mkdirSync(join(tree, 'a', 'b', 'c'), { recursive: true });
    for (const name of [
      ')',
      '.hidden',
      ' ',
      '\n',
      '"',
      '\\',
      'é',
      '\u{ffe6}',
      '\u{10000}',
      'A',
      'a-',
    ]) {
      writeFileSync(join(tree, 'a', 'b', name), name);
    }
    writeFileSync(join(tree, 'n'.repeat(255)), '');
    writeFileSync(
      Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0xc3, 0x28])]),
      'bytes',
    );
    symlinkSync('nowhere', join(tree, 'dangling'));
    symlinkSync('a/b', join(tree, 'to-folder'));
    symlinkSync(Buffer.from([0xff, 0x20]), join(tree, 'to-bytes'));
    symlinkSync('t'.repeat(4095), join(tree, 'to-far'));
    assert.ok((await packed(tree)).equals(dumped(tree)));
  });

  test('a root that is a file, a symlink, an empty folder', async (context) => {
    if (!needsNix(context)) return;
    const tree = makeFolder();
    writeFileSync(join(tree, 'file'), 'contents', { mode: 0o755 });
    symlinkSync('file', join(tree, 'link'));
    mkdirSync(join(tree, 'folder'));
    for (const name of ['file', 'link', 'folder']) {
      assert.ok((await packed(join(tree, name))).equals(dumped(join(tree, name))), name);
    }
  });

  test('thousands of files', async (context) => {
    if (!needsNix(context)) return;
    const tree = makeFolder();
    for (let index = 0; index < 2000; index++) {
      const parent = join(tree, `d${index % 40}`);
      mkdirSync(parent, { recursive: true });
      writeFileSync(join(parent, `file-${index}`), fill(index * 3));
    }
    assert.ok((await packed(tree)).equals(dumped(tree)));
  });

  test('case-hack suffixes, removed as Nix removes them', async (context) => {
    const tree = makeFolder();
    const files = [
      'x~nix~case~hack~1',
      'X',
      'y~nix~case~hack~2.txt',
      'z~nix~case~hack~a~nix~case~hack~1',
    ];
    for (const name of files) writeFileSync(join(tree, name), name);
    mkdirSync(join(tree, 'd~nix~case~hack~1'));
    writeFileSync(join(tree, 'd~nix~case~hack~1', 'inside'), '');
    const names: string[] = [];
    const note = (name: Uint8Array): void => void names.push(Buffer.from(name).toString());
    const parser = createNarParser({ directory: note, regular: note });
    for await (const chunk of packTree(tree, { caseHack: true })) parser.write(chunk);
    assert.deepEqual(names, ['', 'X', 'd', 'inside', 'x', 'y', 'z']);
    if (!needsNix(context)) return;
    assert.ok((await packed(tree, { caseHack: true })).equals(dumped(tree, true)));
    assert.ok((await packed(tree, { caseHack: false })).equals(dumped(tree, false)));
  });
});

describe('packTree refuses', () => {
  test('missing files', async () => {
    await refused('not-found', packed(join(folder, 'missing')), /cannot pack ".*missing".*ENOENT/);
  });

  test('other types of files', async () => {
    const tree = makeFolder();
    const server = createServer();
    await new Promise<void>((done) => server.listen(join(tree, 'socket'), done));
    try {
      await refused(
        'unpackable',
        packed(tree),
        /socket": expected a regular file, directory or symlink/,
      );
      await refused('unpackable', packed('/dev/null'), /another type/);
    } finally {
      await new Promise((done) => server.close(done));
    }
    const fifo = makeFolder();
    execFileSync('mkfifo', [join(fifo, 'pipe')]);
    await refused('unpackable', packed(fifo), /pipe"/);
  });

  test('names that are equal without the case-hack suffix', async () => {
    const tree = makeFolder();
    for (const name of ['a', 'a~nix~case~hack~1']) writeFileSync(join(tree, name), '');
    await refused('unpackable', packed(tree, { caseHack: true }), /are the same name/);
  });

  test('a name that is only a case-hack suffix', async () => {
    const tree = makeFolder();
    writeFileSync(join(tree, '~nix~case~hack~1'), '');
    await refused('malformed-nar', packed(tree, { caseHack: true }), /got ""/);
  });

  test('a large file that grows or shrinks while it is read', async () => {
    for (const change of [-1, 1]) {
      const path = join(makeFolder(), 'file');
      writeFileSync(path, fill(4 * 2 ** 20));
      const nar = packTree(path);
      await nar.next();
      if (change < 0) truncateSync(path, 3 * 2 ** 20);
      else appendFileSync(path, 'more');
      const rest = async (): Promise<void> => {
        for await (const chunk of nar) assert.ok(chunk.length > 0);
      };
      await refused('unpackable', rest(), /file": the file changed while it was read/);
    }
  });

  test('folders nested too deep', async () => {
    const tree = makeFolder();
    mkdirSync(join(tree, ...Array.from({ length: 64 }, () => 'd')), { recursive: true });
    await refused('malformed-nar', packed(tree), /nested less deep than 64/);
  });

  test('to continue after an abort', async () => {
    const path = join(makeFolder(), 'file');
    writeFileSync(path, fill(4 * 2 ** 20));
    const controller = new AbortController();
    const nar = packTree(path, { signal: controller.signal });
    await nar.next();
    controller.abort();
    const rest = async (): Promise<void> => {
      for await (const chunk of nar) assert.ok(chunk.length > 0);
    };
    await refused('aborted', rest(), /aborted while packing ".*file"/);
    await refused('aborted', packed(path, { signal: controller.signal }), /aborted while packing/);
  });
});

test('a large sparse file, in chunks of bounded size', async () => {
  const path = join(makeFolder(), 'sparse');
  const size = 2 ** 29 + 5;
  writeFileSync(path, '');
  truncateSync(path, size);
  let total = 0;
  let most = 0;
  const parser = createNarParser({ contents: (piece) => (total += piece.length) });
  for await (const chunk of packTree(path)) {
    parser.write(chunk);
    most = Math.max(most, chunk.length);
  }
  parser.end();
  assert.equal(total, size);
  assert.ok(most <= 2 ** 20);
});

test('stopping early closes the file', async (context) => {
  const openFiles = '/proc/self/fd';
  if (!existsSync(openFiles)) {
    context.skip(`${openFiles} is not there to count open files`);
    return;
  }
  const path = join(makeFolder(), 'file');
  writeFileSync(path, fill(4 * 2 ** 20));
  const earlier = readdirSync(openFiles).length;
  for (let turn = 0; turn < 20; turn++) {
    for await (const chunk of packTree(path)) {
      if (chunk.length > 1000) break;
    }
  }
  assert.ok(readdirSync(openFiles).length < earlier + 10);
});
