import { NicheError, quote } from '../errors.ts';
import { createNarParser } from './nar-parser.ts';
import { narText } from './nar-wire.ts';

/** One file, directory or symlink of a NAR; a directory comes before what is in it. */
export type NarEntry = NarDirectory | NarRegular | NarSymlink;

interface NarEntryBase {
  /** Names joined by `/`, empty for the root, for people: bytes that are not UTF-8 show as U+FFFD. */
  readonly path: string;
  /** The same, exact. */
  readonly pathBytes: Uint8Array;
}

export interface NarDirectory extends NarEntryBase {
  readonly type: 'directory';
}

export interface NarRegular extends NarEntryBase {
  readonly type: 'regular';
  readonly executable: boolean;
  /** In bytes. */
  readonly size: number;
  /** Where the contents begin in the NAR, in bytes. */
  readonly offset: number;
  /** The contents, once: what is left of them is skipped when the next entry is asked for. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface NarSymlink extends NarEntryBase {
  readonly type: 'symlink';
  /** For people, as `path` is. */
  readonly target: string;
  readonly targetBytes: Uint8Array;
}

type NarEvent =
  | { readonly type: 'entry'; readonly entry: NarDirectory | NarSymlink | Omit<NarRegular, 'body'> }
  | { readonly type: 'contents'; readonly piece: Uint8Array };

/**
 * Reads a NAR entry by entry, holding no more of it than one chunk of `source`. Leaving early ends
 * `source`; a NAR whose every entry was read is also known to end well.
 *
 * @throws NicheError `malformed-nar` while iterating, after the entries before the fault
 */
export async function* readNar(
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<NarEntry, undefined> {
  const events = narEvents(source);
  let failure: Error | undefined;
  /** The next event; a failure met in a body is met again by whoever goes on. */
  const pull = async (): Promise<NarEvent | undefined> => {
    if (failure !== undefined) throw failure;
    try {
      const next = await events.next();
      return next.done === true ? undefined : next.value;
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error));
      throw failure;
    }
  };
  try {
    for (let event = await pull(); event !== undefined; event = await pull()) {
      if (event.type === 'contents') continue;
      const { entry } = event;
      if (entry.type !== 'regular') {
        yield entry;
        continue;
      }
      const body = bodyOf(entry, pull);
      yield { ...entry, body: body.pieces };
      body.pass();
    }
  } finally {
    await events.return();
  }
}

/** A file's contents, taken from `pull` until `pass` is called. */
function bodyOf(
  file: Omit<NarRegular, 'body'>,
  pull: () => Promise<NarEvent | undefined>,
): { readonly pieces: AsyncIterable<Uint8Array>; readonly pass: () => void } {
  let passed = false;
  let left = file.size;
  const pieces = async function* (): AsyncGenerator<Uint8Array> {
    while (left > 0) {
      const event = passed ? undefined : await pull();
      if (event?.type !== 'contents') throw bodyPassed(file.path);
      left -= event.piece.length;
      yield event.piece;
    }
  };
  return {
    pieces: { [Symbol.asyncIterator]: pieces },
    pass: () => {
      passed = true;
    },
  };
}

function bodyPassed(path: string): NicheError {
  return new NicheError(
    'internal',
    `cannot read the contents of ${quote(path)}: the NAR was read on past them`,
  );
}

/** What the parser reports, delivered chunk by chunk. */
async function* narEvents(source: AsyncIterable<Uint8Array>): AsyncGenerator<NarEvent, void, void> {
  let queue: NarEvent[] = [];
  /** The path of the directory being read, with its final slash, after those around it. */
  const around: Uint8Array[] = [];
  const pathOf = (name: Uint8Array): { path: string; pathBytes: Uint8Array } => {
    const parent = around.at(-1) ?? new Uint8Array();
    const pathBytes = Buffer.concat([parent, name]);
    return { path: narText(pathBytes), pathBytes };
  };
  const parser = createNarParser({
    directory: (name) => {
      const path = pathOf(name);
      queue.push({ type: 'entry', entry: { type: 'directory', ...path } });
      const isRoot = around.length === 0;
      around.push(isRoot ? path.pathBytes : Buffer.concat([path.pathBytes, Buffer.from('/')]));
    },
    leave: () => {
      around.pop();
    },
    regular: (name, file) => {
      queue.push({ type: 'entry', entry: { type: 'regular', ...pathOf(name), ...file } });
    },
    contents: (piece) => {
      queue.push({ type: 'contents', piece });
    },
    symlink: (name, target) => {
      const targetBytes = Uint8Array.from(target);
      const entry = { ...pathOf(name), target: narText(target), targetBytes };
      queue.push({ type: 'entry', entry: { type: 'symlink', ...entry } });
    },
  });

  for await (const chunk of source) {
    try {
      parser.write(chunk);
    } catch (error) {
      // How the source is cut must not decide which entries come before the error.
      yield* queue;
      throw error;
    }
    yield* queue;
    queue = [];
  }
  parser.end();
}
