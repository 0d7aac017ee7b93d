import { createHash } from 'node:crypto';

import type { Derivation } from './derivation.ts';

/** Reads a `.drv` file, decoded as Latin-1, which keeps every byte; null when it is gone. */
export type ReadDerivation = (drvPath: string) => Promise<Derivation | null>;

/**
 * Returns the hash of a derivation by which Nix up to 2.34 knows its realisations
 * (staticOutputHashes in derivations.cc), as `sha256:<base16>`: that of the file, with its own output
 * paths removed and each input replaced with its hash. Null when it cannot be computed.
 */
export type HashDerivation = (drvPath: string) => Promise<string | null>;

/** Creates a {@link HashDerivation} that hashes each derivation once. */
export function createDerivationHasher(read: ReadDerivation): HashDerivation {
  /** The hash of a derivation as an input: with its output paths, in base16. */
  const asInput = new Map<string, Promise<string | null>>();

  async function hash(drvPath: string, isInput: boolean): Promise<string | null> {
    const drv = await read(drvPath);
    if (!drv || isImpure(drv)) return null;
    const fixed = fixedOutputHash(drv);
    if (fixed !== null) return fixed;
    const inputs = new Map<string, Set<string>>();
    // One after the other: a graph may have more files than a process can open.
    for (const [inputPath, { outputs, dynamicOutputs }] of drv.inputDrvs) {
      // Nix itself does not hash outputs of outputs in a stable way.
      const digest = dynamicOutputs.size > 0 ? null : await hashInput(inputPath);
      if (digest === null) return null;
      const used = inputs.get(digest) ?? new Set();
      for (const output of outputs) used.add(output);
      inputs.set(digest, used);
    }
    return sha256(unparse(drv, inputs, !isInput));
  }

  function hashInput(drvPath: string): Promise<string | null> {
    const known = asInput.get(drvPath) ?? hash(drvPath, true);
    asInput.set(drvPath, known);
    return known;
  }

  return async (drvPath) => {
    const digest = await hash(drvPath, false);
    return digest === null ? null : `sha256:${digest}`;
  };
}

function isImpure({ outputs }: Derivation): boolean {
  return [...outputs.values()].some(({ hash }) => hash === 'impure');
}

/** A fixed output stands for its contents only, whatever builds it. */
function fixedOutputHash({ outputs }: Derivation): string | null {
  const out = outputs.get('out');
  if (!out || out.hash === '') return null;
  return sha256(`fixed:out:${out.hashAlgo}:${out.hash}:${out.path ?? ''}`);
}

/** Writes a derivation as Nix does before it hashes it (Derivation::unparse). */
function unparse(
  { outputs, inputSrcs, system, builder, args, env }: Derivation,
  inputs: ReadonlyMap<string, ReadonlySet<string>>,
  maskOutputs: boolean,
): string {
  const fields = [
    list([...outputs], ([name, { path, hashAlgo, hash }]) => {
      const shown = maskOutputs ? '' : (path ?? '');
      return `(${[name, shown, hashAlgo, hash].map(text).join(',')})`;
    }),
    list(
      [...inputs].sort(byName),
      ([digest, used]) => `(${text(digest)},${list([...used].sort(), text)})`,
    ),
    list(inputSrcs, text),
    text(system),
    text(builder),
    list(args, text),
    list([...env], ([name, value]) => {
      const shown = maskOutputs && outputs.has(name) ? '' : value;
      return `(${text(name)},${text(shown)})`;
    }),
  ];
  return `Derive(${fields.join(',')})`;
}

function byName([one]: [string, unknown], [other]: [string, unknown]): number {
  return one < other ? -1 : 1;
}

function list<T>(items: readonly T[], format: (item: T) => string): string {
  return `[${items.map(format).join(',')}]`;
}

const escapes: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function text(value: string): string {
  return `"${value.replace(/["\\\n\r\t]/g, (char) => escapes[char] ?? `\\${char}`)}"`;
}

/** @param latin1 text in which each character is one byte */
function sha256(latin1: string): string {
  return createHash('sha256').update(latin1, 'latin1').digest('hex');
}
