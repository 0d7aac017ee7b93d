import { NicheError, quote } from '../../core/errors.ts';

/**
 * The blocks of niche in a nix.conf: the lines between `# niche: <cache> begin` and `# niche: <cache>
 * end`. niche never changes other lines. Texts are `latin1`, one character per byte, which preserves
 * every file.
 */

/** A cache in nix.conf. */
export interface CacheEntry {
  readonly name: string;
  readonly substituter: string;
  /** If empty, the entry has no line with keys. */
  readonly publicKeys: readonly string[];
  /** The netrc file with the login; absent for Nix's default file, or if Nix needs no login. */
  readonly netrcFile?: string | undefined;
}

export interface Block {
  readonly name: string;
  readonly substituter: string | null;
  /** Offsets of its first character, and of the first one after its last line. */
  readonly start: number;
  readonly end: number;
  /** Whether niche created the file for this block. */
  readonly madeFile: boolean;
}

/** The changed text of a file; `before` is the former substituter of the block. */
export interface Edit {
  readonly text: string;
  readonly change: 'added' | 'updated' | 'unchanged';
  readonly before: string | null;
}

const beginGrammar = /^# niche: ([A-Za-z0-9._-]+) begin( \(new file\))?\r?$/;
const endGrammar = /^# niche: ([A-Za-z0-9._-]+) end\r?$/;
const ownLine = /^(extra-substituters|extra-trusted-public-keys|netrc-file) = (.*?)\r?$/;

/** Returns the lines of nix.conf for the cache. */
export function confLines({
  substituter,
  publicKeys,
  netrcFile,
}: Omit<CacheEntry, 'name'>): string[] {
  return [
    `extra-substituters = ${substituter}`,
    ...(publicKeys.length > 0 ? [`extra-trusted-public-keys = ${publicKeys.join(' ')}`] : []),
    ...(netrcFile === undefined ? [] : [`netrc-file = ${netrcFile}`]),
  ];
}

/**
 * Returns the blocks of niche in `text`, in their order.
 *
 * @param where the file, for messages
 * @throws NicheError `malformed-config` when a block was edited
 */
export function findBlocks(text: string, where: string): Block[] {
  const blocks: Block[] = [];
  let open: Omit<Block, 'end' | 'substituter'> | null = null;
  let substituter: string | null = null;
  let offset = 0;
  for (const [index, line] of text.split('\n').entries()) {
    const damaged = (why: string): NicheError =>
      new NicheError('malformed-config', `invalid ${quote(where)}, line ${index + 1}: ${why}`, {
        hint: 'repair or delete the lines from "# niche: … begin" to "end"',
      });
    const [isBegin, beginName = '', madeFile] = beginGrammar.exec(line) ?? [];
    const [isEnd, endName = ''] = endGrammar.exec(line) ?? [];
    if (isBegin !== undefined) {
      if (open) throw damaged(`the block ${quote(open.name)} of niche has no end before it`);
      if (blocks.some(({ name }) => name === beginName)) {
        throw damaged(`second block ${quote(beginName)} of niche`);
      }
      open = { name: beginName, start: offset, madeFile: madeFile !== undefined };
      substituter = null;
    } else if (isEnd !== undefined) {
      if (open?.name !== endName) throw damaged('end of a block of niche without its begin');
      blocks.push({ ...open, substituter, end: offset + line.length });
      open = null;
    } else if (open) {
      const [isOwn, setting, value = ''] = ownLine.exec(line) ?? [];
      if (isOwn === undefined) throw damaged(`unexpected line ${quote(line)} in a block of niche`);
      if (setting === 'extra-substituters') substituter = value;
    }
    offset += line.length + 1;
  }
  if (open) {
    throw new NicheError(
      'malformed-config',
      `invalid ${quote(where)}: the block ${quote(open.name)} of niche has no end`,
      { hint: `add the line "# niche: ${open.name} end" after the block` },
    );
  }
  return blocks;
}

/**
 * Adds a block for the cache at the end, or updates its block.
 *
 * @param text null when there is no file
 * @throws NicheError `malformed-config` when a block was edited
 */
export function writeBlock(text: string | null, entry: CacheEntry, where: string): Edit {
  const former = text ?? '';
  const found = findBlocks(former, where).find(({ name }) => name === entry.name);
  if (found) {
    const block = blockText(entry, found.madeFile);
    const isSame = former.slice(found.start, found.end) === block;
    return {
      text: former.slice(0, found.start) + block + former.slice(found.end),
      change: isSame ? 'unchanged' : 'updated',
      before: found.substituter,
    };
  }
  const block = blockText(entry, text === null);
  // If the last line has no newline, niche adds one there and none after the block. The missing one
  // lets removeBlock restore the file.
  const isWhole = former === '' || former.endsWith('\n');
  return {
    text: isWhole ? `${former}${block}\n` : `${former}\n${block}`,
    change: 'added',
    before: null,
  };
}

/** Undoes {@link writeBlock}: returns the text without `block`; null if there was no file. */
export function removeBlock(text: string, block: Block): string | null {
  const rest =
    block.end < text.length
      ? text.slice(0, block.start) + text.slice(block.end + 1)
      : text.slice(0, Math.max(0, block.start - 1));
  return rest === '' && block.madeFile ? null : rest;
}

function blockText(entry: CacheEntry, madeFile: boolean): string {
  return [
    `# niche: ${entry.name} begin${madeFile ? ' (new file)' : ''}`,
    ...confLines(entry),
    `# niche: ${entry.name} end`,
  ].join('\n');
}
