import { NicheError, quote, toError } from '../errors.ts';
import { maxNarDepth, maxNarNameBytes, maxNarTargetBytes } from '../limits.ts';
import {
  compareAt,
  equalAt,
  exactLengthAt,
  isNarName,
  isNarTarget,
  lengthAt,
  lengthBytes,
  narText,
  paddingOf,
  tags,
} from './nar-wire.ts';

/**
 * Receives the contents of a NAR, in the NAR's order. Names and targets are bytes, usually UTF-8. The
 * arrays are valid only during the call. The root's name is empty.
 */
export interface NarHandler {
  /** A directory starts: its entries follow, then `leave`. */
  directory?(name: Uint8Array): void;
  /** The innermost directory ends. */
  leave?(): void;
  /** A regular file starts: its contents follow in pieces, none when it is empty. */
  regular?(name: Uint8Array, file: NarFile): void;
  /** The next bytes of the file, as a view of the chunk that was written. */
  contents?(piece: Uint8Array): void;
  symlink?(name: Uint8Array, target: Uint8Array): void;
}

export interface NarFile {
  readonly executable: boolean;
  /** In bytes. */
  readonly size: number;
  /** Offset of the contents in the NAR, in bytes. */
  readonly offset: number;
}

/** Parses and validates a NAR in chunks of any size. */
export interface NarParser {
  /** @throws NicheError `malformed-nar`, on this and every later call */
  write(chunk: Uint8Array): void;
  /**
   * Ends the input.
   *
   * @throws NicheError `malformed-nar` when the NAR is truncated
   */
  end(): void;
}

/** What the next token must be. */
type Step =
  | 'magic'
  | 'open'
  | 'type'
  | 'kind'
  | 'marker'
  | 'markerValue'
  | 'contentsTag'
  | 'contents'
  | 'targetTag'
  | 'target'
  | 'close'
  | 'entry'
  | 'entryOpen'
  | 'nameTag'
  | 'name'
  | 'nodeTag'
  | 'entryClose'
  | 'end';

const expectations: Readonly<Record<Step, string>> = {
  magic: 'the magic "nix-archive-1"',
  open: 'the tag "("',
  type: 'the tag "type"',
  kind: '"regular", "directory" or "symlink"',
  marker: 'the tag "executable" or "contents"',
  markerValue: 'an empty string after "executable"',
  contentsTag: 'the tag "contents"',
  contents: `contents of at most ${Number.MAX_SAFE_INTEGER} bytes`,
  targetTag: 'the tag "target"',
  target: `a symlink target of 1 to ${maxNarTargetBytes} bytes without NUL`,
  close: 'the tag ")"',
  entry: 'the tag "entry" or ")"',
  entryOpen: 'the tag "("',
  nameTag: 'the tag "name"',
  name: `a file name of 1 to ${maxNarNameBytes} bytes without "/" and NUL, and neither "." nor ".."`,
  nodeTag: 'the tag "node"',
  entryClose: 'the tag ")"',
  end: 'nothing after the end',
};

/** The longest wrong tag, in bytes, that is read so that the error can show it. */
const maxTagBytes = 32;

const nothing = new Uint8Array();

/**
 * Creates a parser that accepts exactly the NARs that current Nix (2.35, parseDump in archive.cc)
 * installs: names sorted by bytes, each once; zero padding; nesting below {@link maxNarDepth}; nothing
 * after the end.
 */
export function createNarParser(handler: NarHandler): NarParser {
  let step: Step = 'magic';
  /** Offset in the NAR of the next token, piece of contents or padding, in bytes. */
  let position = 0;
  let contentsLeft = 0;
  let paddingLeft = 0;
  let executable = false;
  /** Depth of the current node; the root's is 0. */
  let depth = 0;
  /** The latest name at each depth: the path to the node, and the bound for the next name. */
  const names: Uint8Array[] = [];
  const nameLengths = new Uint8Array(maxNarDepth);
  /** The first bytes of a token that continues in the next chunk; allocated on first use. */
  let held: Uint8Array = nothing;
  let heldBytes = 0;
  let failure: Error | undefined;

  const nameAt = (level: number): Uint8Array =>
    names[level]?.subarray(0, nameLengths[level]) ?? nothing;

  const malformed = (got: string, expected = expectations[step], at = position): NicheError => {
    const path = Array.from({ length: depth }, (_, level) => narText(nameAt(level + 1))).join('/');
    const where = depth === 0 ? 'at the root' : `in ${quote(path)}`;
    return new NicheError(
      'malformed-nar',
      `malformed NAR at byte ${at}, ${where}: expected ${expected}, got ${got}`,
    );
  };

  /** Returns the size of the token at `at`, with its length field and padding, in bytes. */
  const measure = (buffer: Uint8Array, at: number): number => {
    if (step === 'contents') return lengthBytes;
    const length = lengthAt(buffer, at);
    if (length > maxTokenBytes(step))
      throw malformed(`a string of ${exactLengthAt(buffer, at)} bytes`);
    return lengthBytes + length + paddingOf(length);
  };

  const startContents = (size: number): void => {
    handler.regular?.(nameAt(depth), { executable, size, offset: position + lengthBytes });
    contentsLeft = size;
    paddingLeft = paddingOf(size);
    step = 'close';
  };

  const takeName = (buffer: Uint8Array, start: number, length: number): void => {
    if (!isNarName(buffer, start, length)) throw malformed(shown(buffer, start, length));
    if (depth + 1 >= maxNarDepth) {
      throw malformed('a deeper one', `directories nested less deep than ${maxNarDepth}`);
    }
    const level = depth + 1;
    const name = (names[level] ??= new Uint8Array(maxNarNameBytes));
    const previousLength = nameLengths[level] ?? 0;
    if (compareAt(name, 0, previousLength, buffer, start, length) >= 0) {
      const after = `a name after ${quote(narText(nameAt(level)))} in byte order`;
      throw malformed(shown(buffer, start, length), after);
    }
    for (let index = 0; index < length; index++) {
      name[index] = buffer[start + index] ?? 0;
    }
    nameLengths[level] = length;
  };

  /** Ends a node. Returns the step after it: the end of its entry, or of the NAR. */
  const endNode = (): Step => {
    if (depth === 0) return 'end';
    depth--;
    return 'entryClose';
  };

  /** Processes the token with `length` bytes at `start`. Returns the step that must follow. */
  const accept = (buffer: Uint8Array, start: number, length: number): Step => {
    switch (step) {
      case 'magic':
        if (equalAt(buffer, start, length, tags.magic)) return 'open';
        break;
      case 'open':
        if (equalAt(buffer, start, length, tags.open)) return 'type';
        break;
      case 'type':
        if (equalAt(buffer, start, length, tags.type)) return 'kind';
        break;
      case 'kind':
        if (equalAt(buffer, start, length, tags.regular)) {
          executable = false;
          return 'marker';
        }
        if (equalAt(buffer, start, length, tags.symlink)) return 'targetTag';
        if (equalAt(buffer, start, length, tags.directory)) {
          handler.directory?.(nameAt(depth));
          if (depth + 1 < maxNarDepth) nameLengths[depth + 1] = 0;
          return 'entry';
        }
        break;
      case 'marker':
        if (equalAt(buffer, start, length, tags.contents)) return 'contents';
        if (equalAt(buffer, start, length, tags.executable)) {
          executable = true;
          return 'markerValue';
        }
        break;
      case 'markerValue':
        return 'contentsTag';
      case 'contentsTag':
        if (equalAt(buffer, start, length, tags.contents)) return 'contents';
        break;
      case 'targetTag':
        if (equalAt(buffer, start, length, tags.target)) return 'target';
        break;
      case 'target':
        if (isNarTarget(buffer, start, length)) {
          handler.symlink?.(nameAt(depth), buffer.subarray(start, start + length));
          return 'close';
        }
        break;
      case 'close':
        if (equalAt(buffer, start, length, tags.close)) return endNode();
        break;
      case 'entry':
        if (equalAt(buffer, start, length, tags.entry)) return 'entryOpen';
        if (equalAt(buffer, start, length, tags.close)) {
          handler.leave?.();
          return endNode();
        }
        break;
      case 'entryOpen':
        if (equalAt(buffer, start, length, tags.open)) return 'nameTag';
        break;
      case 'nameTag':
        if (equalAt(buffer, start, length, tags.name)) return 'name';
        break;
      case 'name':
        takeName(buffer, start, length);
        return 'nodeTag';
      case 'nodeTag':
        if (equalAt(buffer, start, length, tags.node)) {
          depth++;
          return 'open';
        }
        break;
      case 'entryClose':
        if (equalAt(buffer, start, length, tags.close)) return 'entry';
        break;
      case 'contents':
      case 'end':
        break;
    }
    throw malformed(shown(buffer, start, length));
  };

  /** Processes the complete token at `at`, of `bytes` bytes with its length field and padding. */
  const takeToken = (buffer: Uint8Array, at: number, bytes: number): void => {
    const length = lengthAt(buffer, at);
    if (step === 'contents') {
      if (length > Number.MAX_SAFE_INTEGER) throw malformed(`${exactLengthAt(buffer, at)} bytes`);
      startContents(length);
    } else {
      const start = at + lengthBytes;
      step = accept(buffer, start, length);
      assertZero(buffer, start + length, at + bytes, position + lengthBytes + length);
    }
    position += bytes;
  };

  const assertZero = (buffer: Uint8Array, from: number, to: number, at: number): void => {
    for (let index = from; index < to; index++) {
      if (buffer[index] !== 0) {
        const got = `the byte ${buffer[index] ?? 0}`;
        throw malformed(got, 'zero bytes as padding', at + index - from);
      }
    }
  };

  /** Completes the held token with bytes of `chunk` from `at`. Returns the offset after them. */
  const takeHeld = (chunk: Uint8Array, at: number): number => {
    const wanted = heldBytes < lengthBytes ? lengthBytes : measure(held, 0);
    const stop = Math.min(at + wanted - heldBytes, chunk.length);
    held.set(chunk.subarray(at, stop), heldBytes);
    heldBytes += stop - at;
    if (heldBytes >= lengthBytes && heldBytes === measure(held, 0)) {
      takeToken(held, 0, heldBytes);
      heldBytes = 0;
    }
    return stop;
  };

  const consume = (chunk: Uint8Array): void => {
    let at = 0;
    while (at < chunk.length) {
      if (contentsLeft > 0) {
        const stop = Math.min(at + contentsLeft, chunk.length);
        handler.contents?.(chunk.subarray(at, stop));
        contentsLeft -= stop - at;
        position += stop - at;
        at = stop;
      } else if (paddingLeft > 0) {
        const stop = Math.min(at + paddingLeft, chunk.length);
        assertZero(chunk, at, stop, position);
        paddingLeft -= stop - at;
        position += stop - at;
        at = stop;
      } else if (step === 'end') {
        throw malformed('more bytes');
      } else if (heldBytes > 0) {
        at = takeHeld(chunk, at);
      } else {
        const here = chunk.length - at;
        const bytes = here < lengthBytes ? lengthBytes : measure(chunk, at);
        if (here < bytes) {
          if (held.length === 0) held = new Uint8Array(lengthBytes + maxNarTargetBytes + 1);
          held.set(chunk.subarray(at));
          heldBytes = here;
          return;
        }
        takeToken(chunk, at, bytes);
        at += bytes;
      }
    }
  };

  /** Runs `action`. After a failure, throws that failure on every call. */
  const guard = (action: () => void): void => {
    if (failure !== undefined) throw failure;
    try {
      action();
    } catch (error) {
      failure = toError(error);
      throw error;
    }
  };

  return {
    write: (chunk) => {
      guard(() => {
        consume(chunk);
      });
    },
    end: () => {
      guard(() => {
        if (step === 'end') return;
        const expected =
          contentsLeft > 0
            ? `${contentsLeft} more bytes of contents`
            : paddingLeft > 0
              ? `${paddingLeft} more bytes of padding`
              : expectations[step];
        throw malformed('the end of the data', expected, position + heldBytes);
      });
    },
  };
}

function maxTokenBytes(step: Step): number {
  if (step === 'name') return maxNarNameBytes;
  if (step === 'target') return maxNarTargetBytes;
  return step === 'markerValue' ? 0 : maxTagBytes;
}

function shown(buffer: Uint8Array, start: number, length: number): string {
  return quote(narText(buffer.subarray(start, start + length)));
}
