import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { isNicheError } from '../../../core/errors.ts';
import { createNarParser } from '../../../core/nix/nar-parser.ts';
import { writeNar } from '../../../core/nix/nar-writer.ts';
import type { NarNode } from '../../../core/nix/nar-writer.ts';
import { narCases, narOf } from '../../support/cache/nar-corpus.ts';
import { readNarTree } from '../../support/cache/nar-tree.ts';

async function written(root: NarNode): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of writeNar(root)) {
    assert.ok(chunk.length > 0);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function* streamOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(bytes);
}

const file = (contents: string | Uint8Array, executable = false): NarNode => {
  const bytes = Buffer.from(contents);
  return { type: 'regular', executable, size: bytes.length, contents: () => bytes };
};
const link = (target: string | Uint8Array): NarNode => ({ type: 'symlink', target });
const folder = (...entries: (readonly [string | Uint8Array, NarNode])[]): NarNode => ({
  type: 'directory',
  entries: () => entries,
});
const nested = (depth: number): NarNode =>
  depth === 0 ? file('') : folder(['d', nested(depth - 1)]);

/** Returns the same tree, with directory entries in reverse order and each file as a stream. */
async function reversed(node: NarNode): Promise<NarNode> {
  if (node.type === 'symlink') return node;
  if (node.type === 'regular') {
    const contents = node.contents();
    assert.ok(contents instanceof Uint8Array);
    return { ...node, contents: () => streamOf(contents) };
  }
  const entries: [string | Uint8Array, NarNode][] = [];
  for (const [name, inner] of await node.entries()) {
    entries.unshift([name, await reversed(typeof inner === 'function' ? inner() : inner)]);
  }
  return { type: 'directory', entries: () => entries };
}

describe('writeNar', () => {
  for (const { path, isValid, read } of narCases()) {
    if (!isValid) continue;
    test(`${path} is unchanged after reading and writing`, async () => {
      const bytes = read();
      assert.ok((await written(await reversed(readNarTree([bytes])))).equals(bytes));
    });
  }

  test('reads any tree back unchanged', async () => {
    const name = fc
      .uint8Array({ minLength: 1, maxLength: 12 })
      .filter((bytes) => !bytes.includes(0) && !bytes.includes(0x2f))
      .filter((bytes) => !['.', '..'].includes(Buffer.from(bytes).toString('latin1')));
    const target = fc
      .uint8Array({ minLength: 1, maxLength: 30 })
      .filter((bytes) => !bytes.includes(0));
    const { tree } = fc.letrec<{ tree: NarNode }>((tie) => ({
      tree: fc.oneof(
        { maxDepth: 4 },
        fc.tuple(fc.uint8Array({ maxLength: 40 }), fc.boolean()).map(([b, x]) => file(b, x)),
        target.map((bytes) => link(bytes)),
        fc
          .uniqueArray(fc.tuple(name, tie('tree')), {
            maxLength: 5,
            selector: ([bytes]) => Buffer.from(bytes).toString('latin1'),
          })
          .map((entries) => folder(...entries)),
      ),
    }));
    const property = fc.asyncProperty(tree, async (root) => {
      const nar = await written(root);
      assert.ok((await written(await reversed(readNarTree([nar])))).equals(nar));
    });
    await fc.assert(property, { numRuns: 200 });
  });

  test('sorts by UTF-8 bytes, not by UTF-16 code units', async () => {
    const nar = await written(folder(['\u{10000}', file('')], ['\u{ffe6}', file('')]));
    assert.ok(nar.indexOf('\u{ffe6}') < nar.indexOf('\u{10000}'));
  });

  test('passes large chunks through and combines small ones', async () => {
    const large = new Uint8Array(70_000);
    const small = new Uint8Array(100);
    const entries = Array.from({ length: 5000 }, (_, index) => {
      return [`small-${index}`, file(small)] as const;
    });
    const chunks: Uint8Array[] = [];
    const root = folder(
      ['a-large', { ...file(large), contents: () => streamOf(large) } as NarNode],
      ...entries,
    );
    const parser = createNarParser({});
    for await (const chunk of writeNar(root)) {
      chunks.push(chunk);
      parser.write(chunk);
    }
    parser.end();
    assert.ok(chunks.includes(large));
    assert.ok(chunks.length < 10, `${chunks.length} chunks`);
  });

  test('calls functions that return nodes in order', async () => {
    const asked: string[] = [];
    const late = (name: string): readonly [string, () => NarNode] => [
      name,
      () => {
        asked.push(name);
        return file(name);
      },
    ];
    const root: NarNode = { type: 'directory', entries: () => [late('b'), late('a')] };
    assert.ok(
      (await written(root)).equals(await written(folder(['a', file('a')], ['b', file('b')]))),
    );
    assert.deepEqual(asked.slice(0, 2), ['a', 'b']);
  });

  test('an entry named ) and a deeply nested entry', async () => {
    const nar = await written(folder([')', link(')')]));
    const strings = ['(', 'type', 'directory', 'entry', '(', 'name', ')', 'node'];
    assert.ok(nar.equals(narOf(...strings, '(', 'type', 'symlink', 'target', ')', ')', ')', ')')));
    assert.ok((await written(nested(63))).length > 0);
  });

  test('several gigabytes from a generator, in bounded memory', async () => {
    const block = new Uint8Array(2 ** 22);
    const size = 5 * 2 ** 30 + 3;
    const contents = async function* (): AsyncGenerator<Uint8Array> {
      for (let left = size; left > 0; left -= block.length) {
        yield await Promise.resolve(block.subarray(0, Math.min(left, block.length)));
      }
    };
    let total = 0;
    let before = 0;
    const nar = writeNar({ type: 'regular', executable: false, size, contents });
    const parser = createNarParser({
      regular: () => (before = process.memoryUsage().arrayBuffers),
      contents: (piece) => (total += piece.length),
    });
    for await (const chunk of nar) parser.write(chunk);
    parser.end();
    assert.equal(total, size);
    assert.ok(process.memoryUsage().arrayBuffers - before < 64 * 2 ** 20);
  });
});

describe('a tree that cannot be a NAR', () => {
  const sized = (size: number, ...pieces: number[]): NarNode => ({
    type: 'regular',
    executable: false,
    size,
    contents: async function* () {
      for (const piece of pieces) yield await Promise.resolve(new Uint8Array(piece));
    },
  });
  const cases: readonly (readonly [string, NarNode, RegExp])[] = [
    ['a name with /', folder(['a/b', file('')]), /cannot write the root .* got "a\/b"/],
    ['an empty name', folder(['', file('')]), /got ""/],
    ['the name ..', folder(['d', folder(['..', file('')])]), /cannot write "d" .* got "\.\."/],
    ['a name too long', folder(['n'.repeat(256), file('')]), /1 to 255 bytes/],
    ['a name twice', folder(['a', file('')], ['a', link('b')]), /"a".*occurs twice/],
    ['an empty target', folder(['l', link('')]), /"l".* target of 1 to 4095 bytes/],
    ['a target too long', link('t'.repeat(4096)), /target of 1 to 4095 bytes/],
    ['64 deep', nested(64), /nested less deep than 64/],
    ['contents too short', sized(10, 4, 5), /expected 10 bytes of contents, got 9/],
    ['contents too long', sized(10, 4, 8), /expected 10 bytes of contents, got 12/],
    ['large contents too long', sized(70_000, 70_000, 70_000), /got 140000/],
    ['bytes of another size', { ...file('abc'), size: 4 } as NarNode, /expected 4 .* got 3/],
  ];
  for (const [what, root, message] of cases) {
    test(what, async () => {
      await assert.rejects(written(root), (error) => {
        assert.ok(isNicheError(error, 'malformed-nar'));
        assert.match(error.message, message);
        return true;
      });
    });
  }
});
