import { NicheError, quote } from '../../core/errors.ts';

/**
 * niche's blocks in a nix.conf: the lines between `# niche: <cache> begin` and `# niche: <cache>
 * end`. Everything else belongs to others and is never touched. Texts are `latin1`, a character a
 * byte, so that whatever a file holds survives.
 */

/** A cache as nix.conf names it. */
export interface CacheEntry {
  readonly name: string;
  readonly substituter: string;
  /** Without any, the line of keys is left out. */
  readonly publicKeys: readonly string[];
  /** Where the login is; absent where Nix looks by itself, or needs none. */
  readonly netrcFile?: string | undefined;
}

export interface Block {
  readonly name: string;
  readonly substituter: string | null;
  /** Of its first character, and of the first one after its last line. */
  readonly start: number;
  readonly end: number;
  /** Whether the file was made for this block. */
  readonly madeFile: boolean;
}

/** What became of a file's text; `before` is the substituter that the block had. */
export interface Edit {
  readonly text: string;
  readonly change: 'added' | 'updated' | 'unchanged';
  readonly before: string | null;
}

const beginGrammar = /^# niche: ([A-Za-z0-9._-]+) begin( \(new file\))?\r?$/;
const endGrammar = /^# niche: ([A-Za-z0-9._-]+) end\r?$/;
const ownLine = /^(extra-substituters|extra-trusted-public-keys|netrc-file) = (.*?)\r?$/;

/** The lines of nix.conf by which Nix uses the cache. */
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
 * niche's blocks in `text`, in their order.
 *
 * @param where names the file in messages
 * @throws NicheError `malformed-config` when a block is not as niche left it
 */
export function findBlocks(text: string, where: string): Block[] {
  const blocks: Block[] = [];
  let open: Omit<Block, 'end' | 'substituter'> | null = null;
  let substituter: string | null = null;
  let offset = 0;
  for (const [index, line] of text.split('\n').entries()) {
    const damaged = (why: string): NicheError =>
      new NicheError('malformed-config', `${where}, line ${index + 1}: ${why}`, {
        hint: 'repair the lines between "# niche: … begin" and "end" by hand, or delete them',
      });
    const [isBegin, beginName = '', madeFile] = beginGrammar.exec(line) ?? [];
    const [isEnd, endName = ''] = endGrammar.exec(line) ?? [];
    if (isBegin !== undefined) {
      if (open) throw damaged(`niche's block ${quote(open.name)} has no end before it`);
      if (blocks.some(({ name }) => name === beginName)) {
        throw damaged(`a second block of niche's called ${quote(beginName)}`);
      }
      open = { name: beginName, start: offset, madeFile: madeFile !== undefined };
      substituter = null;
    } else if (isEnd !== undefined) {
      if (open?.name !== endName) throw damaged('an end of niche’s block without its begin');
      blocks.push({ ...open, substituter, end: offset + line.length });
      open = null;
    } else if (open) {
      const [isOwn, setting, value = ''] = ownLine.exec(line) ?? [];
      if (isOwn === undefined) throw damaged(`niche did not write ${quote(line)} in its block`);
      if (setting === 'extra-substituters') substituter = value;
    }
    offset += line.length + 1;
  }
  if (open) {
    throw new NicheError(
      'malformed-config',
      `${where}: niche's block ${quote(open.name)} has no end`,
      { hint: `add the line "# niche: ${open.name} end" where it ends` },
    );
  }
  return blocks;
}

/**
 * Adds the cache's block at the end, or makes the one that is there as it should be.
 *
 * @param text null when there is no file
 * @throws NicheError what {@link findBlocks} throws
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
  // A last line that had no newline gets one from us, and then the block has none: so its removal
  // knows whose the newline was.
  const isWhole = former === '' || former.endsWith('\n');
  return {
    text: isWhole ? `${former}${block}\n` : `${former}\n${block}`,
    change: 'added',
    before: null,
  };
}

/** The text without `block`, as it was before {@link writeBlock}; null where there was no file. */
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
