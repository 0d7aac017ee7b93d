import { NicheError, quote } from '../errors.ts';

/**
 * JSON as SOPS treats it: the order of members matters, and so does whether a number is an integer.
 * 64-bit integers are bigints, all other numbers are numbers.
 */
export type JsonValue = null | boolean | string | number | bigint | readonly JsonValue[] | JsonMap;

export type JsonMap = ReadonlyMap<string, JsonValue>;

/** The most levels of objects and arrays, to bound the recursion. */
const maxDepth = 64;

const space = /[ \t\n\r]*/y;
const stringToken = /"[^"\\]*(?:\\.[^"\\]*)*"/sy;
const numberToken = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const wordToken = /true|false|null/y;

/**
 * Parses one JSON object. `JSON.parse` would move numeric names to the front and keep the last of two
 * equal names. Either could hide an alteration.
 *
 * @param where the text's name in messages, which contain no values
 * @throws NicheError `malformed-secrets`
 */
export function parseJsonMap(text: string, where: string): JsonMap {
  let at = 0;

  function fail(expected: string): never {
    throw new NicheError(
      'malformed-secrets',
      `parsing ${where}: expected ${expected} at character ${at} of ${text.length}`,
    );
  }

  function take(token: RegExp): string | null {
    token.lastIndex = at;
    const found = token.exec(text)?.[0] ?? null;
    if (found !== null) at += found.length;
    return found;
  }

  function skip(character: string): boolean {
    take(space);
    if (text[at] !== character) return false;
    at += 1;
    return true;
  }

  function string(): string {
    take(space);
    const start = at;
    const token = take(stringToken) ?? fail('a string');
    try {
      return JSON.parse(token) as string;
    } catch {
      at = start;
      return fail('a well-formed string');
    }
  }

  function list(depth: number): JsonValue[] {
    const items: JsonValue[] = [];
    if (skip(']')) return items;
    do items.push(value(depth));
    while (skip(','));
    return skip(']') ? items : fail('"," or "]"');
  }

  function map(depth: number): JsonMap {
    const members = new Map<string, JsonValue>();
    if (skip('}')) return members;
    do {
      const name = string();
      if (members.has(name)) {
        throw new NicheError(
          'malformed-secrets',
          `parsing ${where}: ${quote(name)} occurs twice in the same object`,
        );
      }
      if (!skip(':')) fail('":"');
      members.set(name, value(depth));
    } while (skip(','));
    return skip('}') ? members : fail('"," or "}"');
  }

  function value(depth: number): JsonValue {
    if (depth >= maxDepth) fail(`fewer than ${maxDepth} levels`);
    if (skip('{')) return map(depth + 1);
    if (skip('[')) return list(depth + 1);
    if (text[at] === '"') return string();
    const word = take(wordToken);
    if (word !== null) return JSON.parse(word) as boolean | null;
    return number(take(numberToken) ?? fail('a value'));
  }

  if (!skip('{')) fail('an object');
  const document = map(1);
  take(space);
  return at === text.length ? document : fail('the end');
}

/** Parses a number as SOPS does: an integer if it is written as one and fits 64 bits, else a double. */
function number(token: string): bigint | number {
  if (!/^-?[0-9]+$/.test(token)) return Number(token);
  const integer = BigInt(token);
  return BigInt.asIntN(64, integer) === integer ? integer : Number(token);
}

/** Formats JSON as `sops` does: indented by tabs, with a newline at the end. */
export function formatJson(value: JsonValue): string {
  return `${format(value, '')}\n`;
}

function format(value: JsonValue, indent: string): string {
  const deeper = `${indent}\t`;
  if (isList(value)) {
    return lines(
      '[',
      value.map((item) => format(item, deeper)),
      ']',
      indent,
    );
  }
  if (isMap(value)) {
    const members = [...value].map(
      ([name, member]) => `${JSON.stringify(name)}: ${format(member, deeper)}`,
    );
    return lines('{', members, '}', indent);
  }
  return typeof value === 'bigint' ? String(value) : JSON.stringify(value);
}

function lines(open: string, items: readonly string[], close: string, indent: string): string {
  if (items.length === 0) return `${open}${close}`;
  return `${open}\n${items.map((item) => `${indent}\t${item}`).join(',\n')}\n${indent}${close}`;
}

export function isMap(value: JsonValue | undefined): value is JsonMap {
  return value instanceof Map;
}

export function isList(value: JsonValue | undefined): value is readonly JsonValue[] {
  return Array.isArray(value);
}

/** Converts to plain objects, for a schema. An integer that a double cannot hold stays a bigint. */
export function toPlain(value: JsonValue): unknown {
  if (isList(value)) return value.map(toPlain);
  if (isMap(value)) {
    return Object.fromEntries([...value].map(([name, member]) => [name, toPlain(member)]));
  }
  if (typeof value !== 'bigint') return value;
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/**
 * Converts from plain objects. Leaves out undefined members; whole numbers become integers.
 *
 * @throws TypeError for a value that JSON cannot represent
 */
export function fromPlain(value: unknown): JsonValue {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'bigint') return value;
  if (typeof value === 'number' && Number.isFinite(value)) {
    return Number.isSafeInteger(value) ? BigInt(value) : value;
  }
  if (Array.isArray(value)) return value.map(fromPlain);
  if (typeof value !== 'object') throw new TypeError(`JSON has no ${typeof value}`);
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return new Map(members.map(([name, member]) => [name, fromPlain(member)]));
}
