import { randomBytes } from 'node:crypto';

import { base32Alphabet } from './base32.ts';
import { storeHashLength } from './store-path.ts';

/**
 * Keys for the 32 characters of a store hash: the sum of `entering[byte] * multiplier^(31 - position)`,
 * modulo 2^32. The key of the next 32 characters of a text follows from the last one in a few
 * instructions. The numbers are random, so that nobody can make contents whose keys collide often.
 */
const random = randomBytes(4 * (base32Alphabet.length + 1));

/** 3 modulo 8: of the odd numbers, these mix the lowest bits best, see the test of Thue and Morse. */
const multiplier = (random.readInt32LE(0) & ~7) | 3;

/** What a character adds to the key; 0 for a byte that is no base32 digit. */
const entering = new Int32Array(256);
/** What a character has added 32 characters later. */
const leaving = new Int32Array(256);

let highestPower = 1;
for (let exponent = 0; exponent < storeHashLength; exponent++) {
  highestPower = Math.imul(highestPower, multiplier);
}
for (const [value, byte] of Buffer.from(base32Alphabet).entries()) {
  entering[byte] = random.readInt32LE(4 * (value + 1)) || 1;
  leaving[byte] = Math.imul(entering[byte] ?? 0, highestPower);
}

/** Returns whether the byte is a base32 digit. */
export function isDigit(byte: number | undefined): boolean {
  return entering[byte ?? 0] !== 0;
}

/** Returns the key of the 32 digits at `start`. */
export function keyAt(buffer: Uint8Array, start: number): number {
  let key = 0;
  for (let index = start; index < start + storeHashLength; index++) {
    key = (Math.imul(key, multiplier) + (entering[buffer[index] ?? 0] ?? 0)) | 0;
  }
  return key;
}

/** 32 digits of a text. */
interface Window {
  key: number;
  /** Offset after them. */
  end: number;
}

/** Moves on by one digit. Returns false at the end of the run of digits. */
function moveOn(at: Window, buffer: Uint8Array): boolean {
  const next = at.end < buffer.length ? (entering[buffer[at.end] ?? 0] ?? 0) : 0;
  if (next === 0) return false;
  const first = leaving[buffer[at.end - storeHashLength] ?? 0] ?? 0;
  at.key = (Math.imul(at.key, multiplier) + next - first) | 0;
  at.end += 1;
  return true;
}

/** Moves on until the key's slot is occupied. Returns false at the end of the run of digits. */
function findOccupied(at: Window, buffer: Uint8Array, slots: Uint32Array, shift: number): boolean {
  // The loop takes most of the time of a scan of hostile contents: it calls nothing.
  const { length } = buffer;
  let { key, end } = at;
  while (slots[key >>> shift] === 0) {
    const next = end < length ? (entering[buffer[end] ?? 0] ?? 0) : 0;
    if (next === 0) {
      at.end = end;
      return false;
    }
    key =
      (Math.imul(key, multiplier) + next - (leaving[buffer[end - storeHashLength] ?? 0] ?? 0)) | 0;
    end += 1;
  }
  at.key = key;
  at.end = end;
  return true;
}

/** A set of store hashes, searched by the bytes of a text and their key: no string is made of them. */
export interface StoreHashSet {
  size(): number;
  /** Returns the index of the hash at `start` in the order of insertion, or -1. */
  indexOf(key: number, buffer: Uint8Array, start: number): number;
  /**
   * Searches every 32 digits of the run of digits that starts at `start`, which has 32 at least.
   *
   * @param onFound receives the index of each hash that is found
   * @returns the end of the run
   */
  searchRun(buffer: Uint8Array, start: number, onFound: (index: number) => void): number;
  /** Adds the hash at `start`, which is not in the set. */
  add(key: number, buffer: Uint8Array, start: number): void;
  /** Takes out the hash with this index. The indexes of the others stay. */
  delete(index: number): void;
}

/** Slots for each hash at least: most searches end at an empty one. */
const slotsPerHash = 8;

/** @param expected the number of hashes; the set grows beyond it */
export function createStoreHashSet(expected: number): StoreHashSet {
  let size = 0;
  /** The next index: also counts the hashes that were taken out. */
  let added = 0;
  let capacity = 8;
  while (capacity < expected) capacity *= 2;
  let keys = new Int32Array(capacity);
  let hashes = Buffer.alloc(capacity * storeHashLength);
  /** 1 + the index of a hash at the slot of its key or after; 0 for an empty slot. */
  let slots = new Uint32Array(capacity * slotsPerHash);
  /** The highest bits of a key, the best mixed ones, are its slot. */
  let shift = 32 - Math.log2(slots.length);

  function insert(index: number): void {
    let slot = (keys[index] ?? 0) >>> shift;
    while (slots[slot] !== 0) slot = (slot + 1) % slots.length;
    slots[slot] = index + 1;
  }

  function slotOf(index: number): number {
    let slot = (keys[index] ?? 0) >>> shift;
    while (slots[slot] !== index + 1) slot = (slot + 1) % slots.length;
    return slot;
  }

  function grow(): void {
    capacity *= 2;
    const [oldKeys, oldHashes] = [keys, hashes];
    const present = slots.filter((slot) => slot !== 0).map((slot) => slot - 1);
    keys = new Int32Array(capacity);
    keys.set(oldKeys);
    hashes = Buffer.alloc(capacity * storeHashLength);
    hashes.set(oldHashes);
    slots = new Uint32Array(capacity * slotsPerHash);
    shift -= 1;
    for (const index of present) insert(index);
  }

  function isAt(index: number, buffer: Uint8Array, start: number): boolean {
    const stored = hashes;
    const from = index * storeHashLength;
    for (let offset = 0; offset < storeHashLength; offset++) {
      if (stored[from + offset] !== buffer[start + offset]) return false;
    }
    return true;
  }

  function indexOf(key: number, buffer: Uint8Array, start: number): number {
    let slot = key >>> shift;
    for (;;) {
      const index = (slots[slot] ?? 0) - 1;
      if (index < 0) return -1;
      if (keys[index] === key && isAt(index, buffer, start)) return index;
      slot = (slot + 1) % slots.length;
    }
  }

  return {
    size: () => size,
    indexOf,
    searchRun(buffer, start, onFound) {
      const at: Window = { key: keyAt(buffer, start), end: start + storeHashLength };
      while (findOccupied(at, buffer, slots, shift)) {
        const index = indexOf(at.key, buffer, at.end - storeHashLength);
        if (index >= 0) onFound(index);
        if (!moveOn(at, buffer)) break;
      }
      return at.end;
    },
    add(key, buffer, start) {
      if (added === capacity) grow();
      keys[added] = key;
      hashes.set(buffer.subarray(start, start + storeHashLength), added * storeHashLength);
      insert(added);
      added += 1;
      size += 1;
    },
    delete(index) {
      const { length } = slots;
      let hole = slotOf(index);
      // Moves the hashes behind it forward, unless that would put one before the slot of its key.
      for (let slot = (hole + 1) % length; slots[slot] !== 0; slot = (slot + 1) % length) {
        const home = (keys[(slots[slot] ?? 0) - 1] ?? 0) >>> shift;
        if ((slot - home + length) % length < (slot - hole + length) % length) continue;
        slots[hole] = slots[slot] ?? 0;
        hole = slot;
      }
      slots[hole] = 0;
      size -= 1;
    },
  };
}
