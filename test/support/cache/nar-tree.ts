import { createNarParser } from '../../../core/nix/nar-parser.ts';
import type { NarNode } from '../../../core/nix/nar-writer.ts';

/** Reads a whole NAR into a tree for `writeNar`, with all contents in memory. */
export function readNarTree(chunks: Iterable<Uint8Array>): NarNode {
  type Entry = [name: Uint8Array, node: NarNode];
  const root: Entry[] = [];
  /** The entries of the directories around the current node, innermost last. */
  const open: Entry[][] = [root];
  let pieces: Uint8Array[] = [];

  function add(name: Uint8Array, node: NarNode): void {
    // The parser reuses its arrays, so both are copied.
    open.at(-1)?.push([Uint8Array.from(name), node]);
  }

  const parser = createNarParser({
    directory(name) {
      const entries: Entry[] = [];
      add(name, { type: 'directory', entries: () => entries });
      open.push(entries);
    },
    leave() {
      open.pop();
    },
    regular(name, { executable, size }) {
      const own: Uint8Array[] = [];
      pieces = own;
      add(name, { type: 'regular', executable, size, contents: () => Buffer.concat(own) });
    },
    contents(piece) {
      pieces.push(Uint8Array.from(piece));
    },
    symlink(name, target) {
      add(name, { type: 'symlink', target: Uint8Array.from(target) });
    },
  });
  for (const chunk of chunks) parser.write(chunk);
  parser.end();
  const [[, node] = []] = root;
  if (!node) throw new Error('the NAR has no root');
  return node;
}
