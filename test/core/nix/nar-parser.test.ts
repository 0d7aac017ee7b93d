import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { isNicheError, NicheError } from '../../../core/errors.ts';
import { createNarParser } from '../../../core/nix/nar-parser.ts';
import {
  corpusMissing,
  hasCorpus,
  narCases,
  narOf,
  narString,
  piecesOf,
} from '../../support/cache/nar-corpus.ts';

/** The result of parsing a NAR: the events, with contents joined, and the error. */
interface Report {
  readonly events: readonly string[];
  readonly error: string | undefined;
}

function parse(chunks: Iterable<Uint8Array>): Report {
  const events: string[] = [];
  let contents: Buffer[] = [];
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
  const note = (event: string): void => {
    if (contents.length > 0) events.push(`contents ${Buffer.concat(contents).toString('base64')}`);
    contents = [];
    events.push(event);
  };
  const parser = createNarParser({
    directory: (name) => {
      note(`directory ${text(name)}`);
    },
    leave: () => {
      note('leave');
    },
    regular: (name, file) => {
      note(`regular ${text(name)} ${JSON.stringify(file)}`);
    },
    contents: (piece) => {
      contents.push(Buffer.from(piece));
    },
    symlink: (name, target) => {
      note(`symlink ${text(name)} ${text(target)}`);
    },
  });
  try {
    for (const chunk of chunks) parser.write(chunk);
    parser.end();
  } catch (error) {
    assert.ok(error instanceof NicheError, String(error));
    assert.equal(error.code, 'malformed-nar');
    note('');
    return { events, error: error.message };
  }
  note('');
  return { events, error: undefined };
}

const regular = ['(', 'type', 'regular', 'contents', 'hi', ')'];
const entry = (name: string | Uint8Array, ...node: string[]): (string | Uint8Array)[] => [
  ...['entry', '(', 'name', name, 'node'],
  ...(node.length > 0 ? node : regular),
  ')',
];
const directory = (...entries: (string | Uint8Array)[]): (string | Uint8Array)[] => [
  ...['(', 'type', 'directory'],
  ...entries,
  ')',
];
const nested = (depth: number): (string | Uint8Array)[] =>
  depth === 0 ? regular : directory('entry', '(', 'name', 'd', 'node', ...nested(depth - 1), ')');
const symlink = (target: string): string[] => ['(', 'type', 'symlink', 'target', target, ')'];
const withByte = (bytes: Buffer, at: number, value: number): Buffer => {
  const copy = Buffer.from(bytes);
  copy[at] = value;
  return copy;
};

describe('the corpus verdicts', () => {
  const cases = narCases();
  test('the corpus is complete', (context) => {
    if (!hasCorpus()) context.skip(`${corpusMissing}: only the copies are read`);
  });
  test('the corpus has valid and invalid NARs', () => {
    assert.ok(cases.some(({ isValid }) => isValid));
    assert.ok(cases.some(({ isValid }) => !isValid));
  });
  for (const { path, isValid, read } of cases) {
    test(`${path} is ${isValid ? 'read' : 'refused'}, in chunks of any size`, () => {
      const bytes = read();
      const whole = parse([bytes]);
      assert.equal(whole.error === undefined, isValid, whole.error);
      if (bytes.length <= 70_000) assert.deepEqual(parse(piecesOf(bytes, [1])), whole);
      assert.deepEqual(parse(piecesOf(bytes, [7, 1, 64, 3])), whole);
      const property = fc.property(
        fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 20 }),
        (lengths) => {
          assert.deepEqual(parse(piecesOf(bytes, lengths)), whole);
        },
      );
      fc.assert(property, { numRuns: bytes.length > 10_000 ? 3 : 20 });
    });
  }
});

describe('accepted NARs', () => {
  test('reports a tree in order, with offsets', () => {
    const nar = narOf(
      ...directory(
        ...entry(')', ...symlink('/a')),
        ...entry('b', '(', 'type', 'regular', 'executable', '', 'contents', 'hello', ')'),
        ...entry('c', '(', 'type', 'directory', ')'),
      ),
    );
    const offset = nar.indexOf('hello');
    assert.deepEqual(parse([nar]), {
      events: [
        'directory ',
        'symlink ) /a',
        `regular b {"executable":true,"size":5,"offset":${offset}}`,
        `contents ${Buffer.from('hello').toString('base64')}`,
        ...['directory c', 'leave', 'leave', ''],
      ],
      error: undefined,
    });
  });

  test('contents are views of the chunk', () => {
    const nar = narOf('(', 'type', 'regular', 'contents', 'x'.repeat(1000), ')');
    const pieces: Uint8Array[] = [];
    const parser = createNarParser({ contents: (piece) => pieces.push(piece) });
    parser.write(nar);
    parser.end();
    assert.equal(pieces.length, 1);
    assert.equal(pieces[0]?.buffer, nar.buffer);
  });

  test('names and targets of the maximum length', () => {
    assert.equal(parse([narOf(...directory(...entry('n'.repeat(255))))]).error, undefined);
    assert.equal(parse([narOf(...symlink('t'.repeat(4095)))]).error, undefined);
  });

  test('a file 63 deep', () => {
    assert.equal(parse([narOf(...nested(63))]).error, undefined);
  });

  test('a huge file in bounded memory', () => {
    const size = 6 * 2 ** 30;
    const header = narOf('(', 'type', 'regular', 'contents');
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(size));
    const block = new Uint8Array(2 ** 24);
    let seen = 0;
    const parser = createNarParser({ contents: (piece) => (seen += piece.length) });
    parser.write(Buffer.concat([header, length]));
    for (let sent = 0; sent < size; sent += block.length) parser.write(block);
    parser.write(narString(')'));
    parser.end();
    assert.equal(seen, size);
  });
});

describe('refused NARs', () => {
  const refused: readonly (readonly [what: string, nar: Buffer, error: RegExp])[] = [
    ['nothing at all', Buffer.alloc(0), /byte 0, .*magic.*end of the data/],
    ['another magic', narString('nix-archive-2'), /expected the magic .* got "nix-archive-2"/],
    ['no tag', narOf('(', 'typo'), /byte 40, at the root: expected the tag "type", got "typo"/],
    ['an unknown type', narOf('(', 'type', 'fifo'), /expected "regular".* got "fifo"/],
    ['a marker with a value', narOf('(', 'type', 'regular', 'executable', 'x'), /empty string/],
    ['no contents', narOf('(', 'type', 'regular', 'executable', '', ')'), /tag "contents"/],
    ['a tag too long', narOf('(', 'x'.repeat(33)), /got a string of 33 bytes/],
    ['an empty name', narOf(...directory(...entry(''))), /got ""/],
    ['the name .', narOf(...directory(...entry('.'))), /got "\."/],
    ['the name ..', narOf(...directory(...entry('..'))), /got "\.\."/],
    ['a name with /', narOf(...directory(...entry('a/b'))), /got "a\/b"/],
    ['a name with NUL', narOf(...directory(...entry('a\0b'))), /got "a\\u0000b"/],
    ['a name too long', narOf(...directory(...entry('n'.repeat(256)))), /string of 256 bytes/],
    ['a name twice', narOf(...directory(...entry('a'), ...entry('a'))), /after "a" in byte order/],
    ['names out of order', narOf(...directory(...entry('b'), ...entry('a'))), /after "b".* "a"/],
    ['a shorter name later', narOf(...directory(...entry('ab'), ...entry('a'))), /after "ab"/],
    ['an empty target', narOf(...symlink('')), /symlink target of 1 to 4095/],
    ['a target with NUL', narOf(...symlink('a\0')), /without NUL/],
    ['a target too long', narOf(...symlink('t'.repeat(4096))), /string of 4096 bytes/],
    [
      '64 deep',
      narOf(...nested(64)),
      /in "d\/d\/.*": expected directories nested less deep than 64/,
    ],
    [
      'more after the end',
      Buffer.concat([narOf(...regular), Buffer.alloc(1)]),
      /byte 120,.*nothing/,
    ],
    ['padding of a string', withByte(narOf(...regular), 22, 1), /byte 22, .*the byte 1/],
    ['padding of contents', withByte(narOf(...regular), 103, 9), /byte 103, .*padding.*the byte 9/],
    ['cut contents', narOf(...regular).subarray(0, 97), /1 more bytes of contents/],
    ['cut padding', narOf(...regular).subarray(0, 100), /4 more bytes of padding/],
  ];
  for (const [what, nar, error] of refused) {
    test(what, () => {
      const report = parse([nar]);
      assert.match(report.error ?? 'accepted', error);
      assert.equal(parse(piecesOf(nar, [1])).error, report.error);
    });
  }

  test('sizes above the safe integer range', () => {
    for (const size of [2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(size);
      const { error } = parse([narOf('(', 'type', 'regular', 'contents'), length]);
      assert.match(error ?? 'accepted', new RegExp(`got ${size} bytes`));
    }
  });

  test('a failed parser stays failed', () => {
    const parser = createNarParser({});
    const failing = (action: () => void): void => {
      assert.throws(action, (error) => isNicheError(error, 'malformed-nar'));
    };
    failing(() => {
      parser.write(narString('nix-archive-2'));
    });
    failing(() => {
      parser.write(narOf(...regular));
    });
    failing(() => {
      parser.end();
    });
  });

  test('a NAR with any byte changed is refused or parsed differently', () => {
    const nar = narOf(...directory(...entry('a'), ...entry('b', ...symlink('/t'))));
    const { events } = parse([nar]);
    const property = fc.property(
      fc.nat({ max: nar.length - 1 }),
      fc.integer({ min: 1, max: 255 }),
      (at, change) => {
        const changed = withByte(nar, at, (nar[at] ?? 0) ^ change);
        const report = parse([changed]);
        assert.deepEqual(parse(piecesOf(changed, [5, 2])), report);
        assert.notDeepEqual(report, { events, error: undefined });
      },
    );
    fc.assert(property, { numRuns: 500 });
  });
});
