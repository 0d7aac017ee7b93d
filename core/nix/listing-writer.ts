import { isUtf8 } from 'node:buffer';

import { maxListingBytes } from '../limits.ts';
import type { NarHandler } from './nar-parser.ts';

/** A handler that writes the `.ls` file of the NAR that a parser reads, byte for byte as Nix does. */
export interface ListingWriter extends NarHandler {
  /**
   * Returns the file, after the parser's `end` has returned. Null beyond {@link maxListingBytes}, and
   * for a name or target that is not UTF-8: JSON cannot represent it, and Nix fails on it.
   */
  listing(): Uint8Array | null;
}

/**
 * Writes each entry at once, because the entries of a NAR come in the listing's order. A tree of them
 * would take several times the memory of the text.
 */
export function createListingWriter(): ListingWriter {
  const text = createJsonText(maxListingBytes);
  /** Whether the innermost open directory, or the document, needs no comma before its next entry. */
  let isFirst = true;
  let depth = 0;

  function startEntry(name: Uint8Array): void {
    if (depth === 0) text.append('{"root":');
    else {
      if (!isFirst) text.append(',');
      text.appendString(name);
      text.append(':');
    }
    isFirst = false;
  }

  function endEntry(): void {
    if (depth === 0) text.append(',"version":1}');
  }

  return {
    directory(name) {
      startEntry(name);
      text.append('{"entries":{');
      isFirst = true;
      depth += 1;
    },
    leave() {
      text.append('},"type":"directory"}');
      isFirst = false;
      depth -= 1;
      endEntry();
    },
    regular(name, { executable, size, offset }) {
      startEntry(name);
      const flag = executable ? '"executable":true,' : '';
      text.append(`{${flag}"narOffset":${offset},"size":${size},"type":"regular"}`);
      endEntry();
    },
    symlink(name, target) {
      startEntry(name);
      text.append('{"target":');
      text.appendString(target);
      text.append(',"type":"symlink"}');
      endEntry();
    },
    listing: () => text.bytes(),
  };
}

/** JSON that is written piece by piece. It keeps nothing once it is too large or invalid. */
interface JsonText {
  /** Appends ASCII as it is. */
  append(json: string): void;
  /** Appends a string literal with these bytes as its value. */
  appendString(value: Uint8Array): void;
  /** Returns the text; null when it is too large or a string was not UTF-8. */
  bytes(): Uint8Array | null;
}

/** Of most NARs the listing is shorter, in bytes. */
const firstCapacity = 256;

/** The longest form of a byte in a string literal, such as `\u0001`, in bytes. */
const maxEscapeBytes = 6;

const quotationMark = 0x22;

/** The form in a string literal of each byte that cannot stand for itself. */
const escapes: readonly (Uint8Array | undefined)[] = Array.from({ length: 256 }, (_, byte) => {
  const literal = JSON.stringify(String.fromCharCode(byte)).slice(1, -1);
  return literal.length > 1 ? Buffer.from(literal) : undefined;
});

/** Writes the bytes of a string literal to `target` at `at`. Returns the end. */
function writeEscaped(value: Uint8Array, target: Uint8Array, at: number): number {
  let end = at;
  for (const byte of value) {
    const escape = escapes[byte];
    if (escape === undefined) {
      target[end++] = byte;
    } else {
      for (const escaped of escape) target[end++] = escaped;
    }
  }
  return end;
}

function createJsonText(maxBytes: number): JsonText {
  let buffer: Buffer<ArrayBuffer> | null = Buffer.from(new ArrayBuffer(firstCapacity));
  let length = 0;

  /** Frees the text now: a collector would let those of several NARs pile up. */
  function drop(): null {
    buffer?.buffer.transfer(0);
    return (buffer = null);
  }

  /** Returns the buffer with room for `bytes` more bytes; null when there is none. */
  function reserve(bytes: number): Buffer | null {
    if (buffer === null || length + bytes <= buffer.length) return buffer;
    if (length > maxBytes) return drop();
    const capacity = Math.max(length + bytes, Math.min(2 * buffer.length, maxBytes));
    return (buffer = Buffer.from(buffer.buffer.transfer(capacity)));
  }

  return {
    append(json) {
      length += reserve(json.length)?.write(json, length, 'latin1') ?? 0;
    },
    appendString(value) {
      const target = reserve(maxEscapeBytes * value.length + 2);
      if (target === null) return;
      target[length] = quotationMark;
      length = writeEscaped(value, target, length + 1);
      target[length++] = quotationMark;
      if (!isUtf8(value)) drop();
    },
    bytes: () => (length > maxBytes ? drop() : (buffer?.subarray(0, length) ?? null)),
  };
}
