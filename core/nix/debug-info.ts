import { isNicheError } from '../errors.ts';
import { maxDebugFiles, maxDebugListingBytes } from '../limits.ts';
import { parseListing } from './listing.ts';
import type { ListedDirectory, NarListing } from './listing.ts';

/** A file with debug information in a NAR. */
export interface DebugFile {
  /** The build ID of the program that it describes: 40 hexadecimal digits. */
  readonly buildId: string;
  /** Its path in the NAR. */
  readonly member: string;
}

const folder = ['lib', 'debug', '.build-id'] as const;

/**
 * Finds the debug files in the listing of a NAR, as Nix does for `index-debug-info`
 * (binary-cache-store.cc): at most {@link maxDebugFiles}, and none in a listing that is malformed or
 * longer than {@link maxDebugListingBytes}.
 *
 * @param listing a `.ls` file
 */
export function findDebugFiles(listing: Uint8Array): DebugFile[] {
  const text = Buffer.from(listing.buffer, listing.byteOffset, listing.byteLength);
  // Most listings have none, and parsing takes many times as long as this.
  if (text.length > maxDebugListingBytes || !text.includes('".build-id"')) return [];
  const files: DebugFile[] = [];
  for (const [start, entry] of directoryAt(parse(text.toString()), folder)?.entries ?? []) {
    if (!/^[0-9a-f]{2}$/.test(start) || entry.type !== 'directory') continue;
    for (const [name, { type }] of entry.entries) {
      const rest = /^([0-9a-f]{38})\.debug$/.exec(name)?.[1];
      if (rest === undefined || type !== 'regular') continue;
      if (files.length === maxDebugFiles) return files;
      files.push({ buildId: start + rest, member: [...folder, start, name].join('/') });
    }
  }
  return files;
}

/**
 * Formats the object that leads from a build ID to a debug file, byte for byte as Nix writes it.
 *
 * @param url the key of the NAR
 */
export function formatDebugLink(url: string, { member }: DebugFile): string {
  return JSON.stringify({ archive: `../${url}`, member });
}

function parse(text: string): NarListing | null {
  try {
    return parseListing(text);
  } catch (error) {
    if (isNicheError(error, 'malformed-listing')) return null;
    throw error;
  }
}

function directoryAt(root: NarListing | null, path: readonly string[]): ListedDirectory | null {
  let node: NarListing | null | undefined = root;
  for (const name of path) node = node?.type === 'directory' ? node.entries.get(name) : null;
  return node?.type === 'directory' ? node : null;
}
