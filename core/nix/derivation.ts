import { messageOf, NicheError, quote } from '../errors.ts';
import { maxDerivationBytes, maxDerivationDepth } from '../limits.ts';
import { defaultStoreDir, parseStorePath } from './store-path.ts';

export interface DerivationOutput {
  /** The full store path; null when only a build can determine it (floating and deferred outputs). */
  readonly path: string | null;
  /** Such as `sha256` or `r:sha256`, of a fixed or content-addressed output; otherwise empty. */
  readonly hashAlgo: string;
  /** In base16, of a fixed output; `impure` of an impure output; otherwise empty. */
  readonly hash: string;
}

export interface DerivationInput {
  /** Names of the outputs that the derivation uses. */
  readonly outputs: readonly string[];
  /** By output name: the outputs used of the derivation that this output itself is (xp-dyn-drv). */
  readonly dynamicOutputs: ReadonlyMap<string, DerivationInput>;
}

export interface Derivation {
  /** By output name. */
  readonly outputs: ReadonlyMap<string, DerivationOutput>;
  /** By the full store path of the `.drv`. */
  readonly inputDrvs: ReadonlyMap<string, DerivationInput>;
  /** Full store paths. */
  readonly inputSrcs: readonly string[];
  readonly system: string;
  readonly builder: string;
  readonly args: readonly string[];
  readonly env: ReadonlyMap<string, string>;
}

/**
 * Parses a `.drv` file: an ATerm `Derive(…)`, or `DrvWithVersion("xp-dyn-drv",…)` whose inputs may be
 * outputs of outputs. Accepts what Nix 2.35 writes (Derivation::unparse in derivations.cc).
 *
 * @param text the file's contents; bytes that are not UTF-8 only occur in arguments and environment
 * @throws NicheError `malformed-derivation`
 */
export function parseDerivation(text: string, storeDir: string = defaultStoreDir): Derivation {
  if (Buffer.byteLength(text) > maxDerivationBytes) {
    throw malformed(
      0,
      `expected at most ${maxDerivationBytes} bytes, got ${Buffer.byteLength(text)}`,
    );
  }
  const reader = atermReader(text);
  const path = (): string => reader.checked((found) => parseStorePath(found, storeDir).path);
  const dynamic = reader.tryToken('DrvWithVersion(');
  if (dynamic) {
    reader.token('"xp-dyn-drv",');
  } else {
    reader.token('Derive(');
  }
  const outputs = reader.map(reader.text, () => {
    reader.token(',');
    const output = reader.checked((found) =>
      found === '' ? null : parseStorePath(found, storeDir).path,
    );
    reader.token(',');
    const hashAlgo = reader.text();
    reader.token(',');
    return { path: output, hashAlgo, hash: reader.text() };
  });
  reader.token(',');
  const inputDrvs = reader.map(path, () => {
    reader.token(',');
    return readInput(reader, dynamic ? 0 : null);
  });
  reader.token(',');
  const inputSrcs = reader.list(path);
  reader.token(',');
  const system = reader.text();
  reader.token(',');
  const builder = reader.text();
  reader.token(',');
  const args = reader.list(reader.text);
  reader.token(',');
  const env = reader.map(reader.text, () => {
    reader.token(',');
    return reader.text();
  });
  reader.token(')');
  reader.end();
  return { outputs, inputDrvs, inputSrcs, system, builder, args, env };
}

/** @param depth the nesting of outputs of outputs; null where the format does not allow any */
function readInput(reader: AtermReader, depth: number | null): DerivationInput {
  if (depth === null || !reader.tryToken('(')) {
    return { outputs: reader.list(reader.text), dynamicOutputs: new Map() };
  }
  if (depth >= maxDerivationDepth) {
    throw reader.malformed(`expected outputs nested less than ${maxDerivationDepth} deep`);
  }
  const outputs = reader.list(reader.text);
  reader.token(',');
  const dynamicOutputs = reader.map(reader.text, () => {
    reader.token(',');
    return readInput(reader, depth + 1);
  });
  reader.token(')');
  return { outputs, dynamicOutputs };
}

interface AtermReader {
  readonly token: (expected: string) => void;
  readonly tryToken: (expected: string) => boolean;
  readonly text: () => string;
  /** Reads a string and parses it; a failure is reported at the string's position. */
  readonly checked: <Parsed>(parse: (text: string) => Parsed) => Parsed;
  readonly list: <Item>(item: () => Item) => Item[];
  /** Reads a list of `(<key><value>)`, each key once. */
  readonly map: <Value>(key: () => string, value: () => Value) => Map<string, Value>;
  readonly end: () => void;
  readonly malformed: (reason: string) => NicheError;
}

const escapes: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

function atermReader(input: string): AtermReader {
  let position = 0;

  const fail = (reason: string, cause?: unknown): NicheError => malformed(position, reason, cause);

  const tryToken = (expected: string): boolean => {
    const found = input.startsWith(expected, position);
    position += found ? expected.length : 0;
    return found;
  };

  const token = (expected: string): void => {
    if (!tryToken(expected)) {
      const got = input.slice(position, position + Math.max(expected.length, 16));
      throw fail(`expected ${expected}, got ${quote(got)}`);
    }
  };

  const text = (): string => {
    token('"');
    let value = '';
    for (let from = position; ; from = position) {
      while (position < input.length && input[position] !== '"' && input[position] !== '\\') {
        position++;
      }
      value += input.slice(from, position);
      const stop = input[position];
      const escaped = input[position + 1];
      if (stop === '"') {
        position++;
        return value;
      }
      if (escaped === undefined) {
        throw fail('unterminated string');
      }
      value += escapes[escaped] ?? escaped;
      position += 2;
    }
  };

  const checked = <Parsed>(parse: (text: string) => Parsed): Parsed => {
    const start = position;
    const value = text();
    try {
      return parse(value);
    } catch (error) {
      position = start;
      throw fail(messageOf(error), error);
    }
  };

  const list = <Item>(item: () => Item): Item[] => {
    const items: Item[] = [];
    token('[');
    while (!tryToken(']')) {
      if (items.length > 0) {
        token(',');
      }
      items.push(item());
    }
    return items;
  };

  const map = <Value>(key: () => string, value: () => Value): Map<string, Value> => {
    const values = new Map<string, Value>();
    list(() => {
      token('(');
      const name = key();
      if (values.has(name)) {
        throw fail(`${quote(name)} is listed twice`);
      }
      values.set(name, value());
      token(')');
    });
    return values;
  };

  const end = (): void => {
    if (position < input.length) {
      throw fail(`expected the end of the file, got ${quote(input.slice(position))}`);
    }
  };

  return { token, tryToken, text, checked, list, map, end, malformed: fail };
}

function malformed(position: number, reason: string, cause?: unknown): NicheError {
  return new NicheError(
    'malformed-derivation',
    `malformed derivation at character ${position}: ${reason}`,
    cause === undefined ? undefined : { cause },
  );
}
