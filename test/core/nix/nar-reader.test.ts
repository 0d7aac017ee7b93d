import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isNicheError } from '../../../core/errors.ts';
import { readNar } from '../../../core/nix/nar-reader.ts';
import { narCases, narOf, narString, piecesOf } from '../../support/cache/nar-corpus.ts';

async function* streamOf(chunks: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield await Promise.resolve(chunk);
}

/** Every entry as text, with its contents. */
async function read(chunks: Iterable<Uint8Array>): Promise<string[]> {
  const seen: string[] = [];
  for await (const entry of readNar(streamOf(chunks))) {
    const path = Buffer.from(entry.pathBytes).toString('latin1');
    if (entry.type === 'regular') {
      const pieces: Uint8Array[] = [];
      for await (const piece of entry.body) pieces.push(piece);
      const contents = Buffer.concat(pieces);
      assert.equal(contents.length, entry.size);
      seen.push(`${path}: ${entry.executable ? 'x' : '-'} ${contents.toString('base64')}`);
    } else if (entry.type === 'symlink') {
      seen.push(`${path} -> ${Buffer.from(entry.targetBytes).toString('latin1')}`);
    } else {
      seen.push(`${path}/`);
    }
  }
  return seen;
}

const file = (contents: string): string[] => ['(', 'type', 'regular', 'contents', contents, ')'];
const tree = narOf(
  ...['(', 'type', 'directory', 'entry', '(', 'name', 'a', 'node', ...file('first'), ')'],
  ...['entry', '(', 'name', 'd', 'node', '(', 'type', 'directory'],
  ...['entry', '(', 'name', 'é', 'node', '(', 'type', 'symlink', 'target', '../a', ')', ')'],
  ...[')', ')', 'entry', '(', 'name', 'z', 'node', ...file('last'), ')', ')'],
);

describe('readNar', () => {
  for (const { path, isValid, read: bytesOf } of narCases()) {
    test(`${path} is ${isValid ? 'read' : 'refused'}, however it is cut`, async () => {
      const bytes = bytesOf();
      if (isValid) {
        const whole = await read([bytes]);
        assert.ok(whole.length > 0);
        assert.deepEqual(await read(piecesOf(bytes, [1000, 1, 13])), whole);
      } else {
        const isMalformed = (error: unknown): boolean => isNicheError(error, 'malformed-nar');
        await assert.rejects(read([bytes]), isMalformed);
        await assert.rejects(read(piecesOf(bytes, [1])), isMalformed);
      }
    });
  }

  test('gives paths as text and as bytes', async () => {
    const paths: string[] = [];
    for await (const entry of readNar(streamOf([tree]))) {
      paths.push(entry.path);
      assert.equal(Buffer.from(entry.pathBytes).toString(), entry.path);
    }
    assert.deepEqual(paths, ['', 'a', 'd', 'd/é', 'z']);
  });

  test('skips what is left of a body', async () => {
    for (const lengths of [[tree.length], [1], [3]]) {
      const sizes: number[] = [];
      for await (const entry of readNar(streamOf(piecesOf(tree, lengths)))) {
        if (entry.type !== 'regular') continue;
        for await (const piece of entry.body) {
          assert.ok(piece.length > 0);
          break;
        }
        sizes.push(entry.size);
      }
      assert.deepEqual(sizes, [5, 4]);
    }
  });

  test('gives the entries before a fault', async () => {
    const broken = Buffer.concat([tree.subarray(0, -16), narString('entri')]);
    const seen: string[] = [];
    await assert.rejects(
      async () => {
        for await (const entry of readNar(streamOf([broken]))) seen.push(entry.path);
      },
      (error) => isNicheError(error, 'malformed-nar'),
    );
    assert.deepEqual(seen, ['', 'a', 'd', 'd/é', 'z']);
  });

  test('a fault in a body is met again by who goes on', async () => {
    const cut = tree.subarray(0, tree.indexOf('first') + 2);
    const entries = readNar(streamOf([cut]));
    await entries.next();
    const { value } = await entries.next();
    assert.ok(value?.type === 'regular');
    const isMalformed = (error: unknown): boolean => isNicheError(error, 'malformed-nar');
    await assert.rejects(async () => {
      for await (const piece of value.body) assert.ok(piece.length <= 2);
    }, isMalformed);
    await assert.rejects(entries.next(), isMalformed);
  });

  test('a body asked for too late says so', async () => {
    const entries = readNar(streamOf([tree]));
    await entries.next();
    const { value } = await entries.next();
    assert.ok(value?.type === 'regular');
    await entries.next();
    await assert.rejects(
      async () => {
        for await (const piece of value.body) assert.fail(String(piece));
      },
      (error) => isNicheError(error, 'internal'),
    );
    await entries.return(undefined);
  });

  test('leaving early ends the source', async () => {
    let ended = false;
    const source = async function* (): AsyncGenerator<Uint8Array> {
      try {
        for (const piece of piecesOf(tree, [16])) yield await Promise.resolve(piece);
      } finally {
        ended = true;
      }
    };
    for await (const entry of readNar(source())) {
      if (entry.path === 'a') break;
    }
    assert.ok(ended);
  });
});
