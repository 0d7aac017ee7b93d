import { createHash } from 'node:crypto';

import { NicheError, messageOf, quote } from '../errors.ts';
import { parseJson } from '../util/json.ts';
import { encodeBase32 } from './base32.ts';
import { formatHash, parseHash } from './hash.ts';
import { formatSignature, parseSignature } from './keys.ts';
import { baseNameOf, parseStoreBaseName, parseStorePath } from './store-path.ts';

/**
 * That a build of an output of a derivation resulted in a store path. Readers need it for every output
 * whose path only a build can determine: those of content-addressed derivations and of their dependents.
 */
export interface Realisation {
  /** The derivation's hash modulo its fixed-output inputs, `sha256:<base16>`. */
  readonly drvHash: string;
  /** The full store path of the `.drv`. */
  readonly drvPath: string;
  /** The name of the output, such as `out`. */
  readonly output: string;
  /** The full store path of the output. */
  readonly outPath: string;
}

/** What an object of a cache states about a realisation. Its key is the object's key. */
export interface RealisationValue {
  readonly outPath: string;
  /** Each `<key name>:<base64>`. */
  readonly signatures: readonly string[];
}

/**
 * A form in which Nix stores realisations. Both are published, since each Nix reads only one of them:
 * `realisations/` is for Nix up to 2.34, `build-trace-v2/` for Nix from 2.35.
 */
export interface RealisationLayout {
  readonly prefix: string;
  /** Returns the object's key. */
  readonly keyOf: (realisation: Realisation) => string;
  /** Returns the text that signatures sign. */
  readonly fingerprint: (realisation: Realisation, storeDir: string) => string;
  /** Returns the object's text. */
  readonly format: (
    realisation: Realisation,
    signatures: readonly string[],
    storeDir: string,
  ) => string;
}

/** Nix up to 2.34: keyed by the derivation's hash. */
const hashed: RealisationLayout = {
  prefix: 'realisations/',
  keyOf: (realisation) => `realisations/${realisationId(realisation)}.doi`,
  fingerprint: (realisation, storeDir) => JSON.stringify(hashedFields(realisation, storeDir)),
  format: (realisation, signatures, storeDir) =>
    JSON.stringify({
      ...hashedFields(realisation, storeDir),
      signatures: [...signatures].sort(),
    }),
};

/** Nix from 2.35: keyed by the derivation's store path. */
const traced: RealisationLayout = {
  prefix: 'build-trace-v2/',
  keyOf: ({ drvPath, output }) =>
    `build-trace-v2/${drvPath.slice(drvPath.lastIndexOf('/') + 1)}/${output}.doi`,
  fingerprint: ({ drvPath, output, outPath }, storeDir) =>
    JSON.stringify({
      key: { drvPath: baseNameOf(drvPath, storeDir), outputName: output },
      value: { outPath: baseNameOf(outPath, storeDir) },
    }),
  format: ({ outPath }, signatures, storeDir) =>
    JSON.stringify({
      outPath: baseNameOf(outPath, storeDir),
      signatures: [...signatures].sort().map((text) => {
        const colon = text.indexOf(':');
        return { keyName: text.slice(0, colon), sig: text.slice(colon + 1) };
      }),
    }),
};

/** Both layouts, in the order in which a publisher writes them. */
export const realisationLayouts: readonly RealisationLayout[] = [hashed, traced];

/** Returns the id that Nix up to 2.34 gives a realisation: `sha256:<base16>!<output>`. */
export function realisationId({
  drvHash,
  output,
}: Pick<Realisation, 'drvHash' | 'output'>): string {
  return `${drvHash}!${output}`;
}

/** Returns the name of a realisation in messages: `<path of the .drv>^<output>`. */
export function realisationName({
  drvPath,
  output,
}: Pick<Realisation, 'drvPath' | 'output'>): string {
  return `${drvPath}^${output}`;
}

/**
 * Returns the key of the object that a publisher creates last, so that it stands for both layouts.
 *
 * @param name see {@link realisationName}
 */
export function lastRealisationKey(name: string): string {
  const at = name.lastIndexOf('^');
  return traced.keyOf({
    ...{ drvHash: '', outPath: '' },
    ...{ drvPath: name.slice(0, at), output: name.slice(at + 1) },
  });
}

/** Whether `text` is the name of a realisation, and not a store path. */
export function isRealisationName(text: string): boolean {
  return /\.drv\^[0-9A-Za-z+\-._?=]+$/.test(text);
}

/**
 * Returns 32 base32 characters that identify a realisation by its name. They have the form of a store
 * hash, so a realisation can wait for its output as a path waits for a reference.
 */
export function realisationHash(name: string): string {
  const digest = createHash('sha256').update(`realisation:${name}`).digest();
  return encodeBase32(digest.subarray(0, 20));
}

/** The fields that are signed, in the order of their names, as Nix prints them. */
function hashedFields(realisation: Realisation, storeDir: string): object {
  return {
    // Nix 2.34 signs this as empty, whatever it is. Older readers accept that.
    dependentRealisations: {},
    id: realisationId(realisation),
    outPath: baseNameOf(realisation.outPath, storeDir),
  };
}

/**
 * The rules of store path names (OutputName in Nix), and at most 160 characters: an object's name with
 * a hash and more would be too long for file systems.
 */
const outputGrammar = /^[0-9A-Za-z+\-._?=]{1,160}$/;

/**
 * Brings a realisation into canonical form.
 *
 * @throws NicheError `malformed-realisation`
 */
export function canonicalRealisation(
  { drvHash, drvPath, output, outPath }: Realisation,
  storeDir: string,
): Realisation {
  try {
    const drv = parseStorePath(drvPath, storeDir);
    const out = parseStorePath(outPath, storeDir);
    const hash = parseHash(drvHash, 'sha256');
    if (!drv.name.endsWith('.drv')) throw malformed(`expected a .drv file, got ${quote(drvPath)}`);
    if (!outputGrammar.test(output)) throw malformed(`invalid output name ${quote(output)}`);
    const name = outputPathName(drv.name.slice(0, -'.drv'.length), output);
    if (out.name !== name) {
      throw malformed(`expected an output path with the name ${quote(name)}, got ${out.path}`);
    }
    return { drvHash: formatHash(hash, 'base16'), drvPath: drv.path, output, outPath: out.path };
  } catch (error) {
    if (error instanceof NicheError && error.code === 'malformed-realisation') throw error;
    throw malformed(messageOf(error), error);
  }
}

/** Returns the name of an output's store path (outputPathName in Nix). */
export function outputPathName(drvName: string, output: string): string {
  return output === 'out' ? drvName : `${drvName}-${output}`;
}

/**
 * Reads an object of either layout, of any cache: Nix has written signatures as texts and as objects.
 * Fields that niche does not know are ignored, as Nix does.
 *
 * @throws NicheError `malformed-realisation`
 */
export function parseRealisationValue(text: string, storeDir: string): RealisationValue {
  try {
    const document = parseJson(text) as Record<string, unknown> | null;
    const { outPath, signatures = [] } = document ?? {};
    if (typeof outPath !== 'string') throw malformed('expected the base name of a path as outPath');
    if (!Array.isArray(signatures)) throw malformed('expected a list of signatures');
    return {
      outPath: parseStoreBaseName(outPath, storeDir).path,
      signatures: signatures.map(readSignature),
    };
  } catch (error) {
    if (error instanceof NicheError && error.code === 'malformed-realisation') throw error;
    throw malformed(messageOf(error), error);
  }
}

function readSignature(value: unknown): string {
  if (typeof value === 'string') return formatSignature(parseSignature(value));
  const { keyName, sig } = (value ?? {}) as Record<string, unknown>;
  if (typeof keyName !== 'string' || typeof sig !== 'string') {
    throw malformed('expected a signature with keyName and sig');
  }
  return formatSignature(parseSignature(`${keyName}:${sig}`));
}

/**
 * Reads what `nix realisation info --json` prints, from 2.35 `nix store build-trace info --json`.
 *
 * @returns the full path of each output, by {@link realisationId} or {@link realisationName}
 * @throws NicheError `malformed-realisation`
 */
export function parsePrintedRealisations(text: string, storeDir: string): Map<string, string> {
  const outputs = new Map<string, string>();
  const add = (key: string, outPath: unknown): void => {
    if (typeof outPath !== 'string') throw malformed('expected the base name of a path as outPath');
    outputs.set(key, parseStoreBaseName(outPath, storeDir).path);
  };
  try {
    const printed = parseJson(text);
    if (!Array.isArray(printed)) throw malformed('expected a list of realisations');
    for (const entry of printed as Record<string, unknown>[]) {
      const { id, outPath, dependentRealisations = {}, key, value } = entry;
      if (typeof id === 'string') {
        add(id, outPath);
        // Up to 2.33, those that it was built with.
        for (const [other, path] of Object.entries(dependentRealisations as object))
          add(other, path);
      } else if (typeof key === 'object') {
        const { drvPath, outputName } = key as Record<string, string>;
        const drv = parseStoreBaseName(drvPath ?? '', storeDir).path;
        add(
          realisationName({ drvPath: drv, output: outputName ?? '' }),
          (value as RealisationValue).outPath,
        );
      }
    }
  } catch (error) {
    if (error instanceof NicheError && error.code === 'malformed-realisation') throw error;
    throw malformed(messageOf(error), error);
  }
  return outputs;
}

const hashedKey = /^realisations\/(sha256:[0-9a-f]{64})!([0-9A-Za-z+\-._?=]{1,160})\.doi$/;
const tracedKey =
  /^build-trace-v2\/([0-9a-df-np-sv-z]{32}-[0-9A-Za-z+\-._?=]{1,211}\.drv)\/([0-9A-Za-z+\-._?=]{1,160})\.doi$/;

/** Whether `key` is that of a realisation, in either layout. */
export function isRealisationKey(key: string): boolean {
  return hashedKey.test(key) || tracedKey.test(key);
}

/** What the key of a stored realisation tells: its layout, and what that layout identifies it by. */
export interface RealisationKey {
  readonly layout: RealisationLayout;
  /** Its output path is empty, and so is what this layout does not use: `drvPath` or `drvHash`. */
  readonly realisation: Realisation;
}

/** Parses the key of a realisation; null for every other key. */
export function parseRealisationKey(key: string, storeDir: string): RealisationKey | null {
  const [, drvHash, hashedOutput] = hashedKey.exec(key) ?? [];
  if (drvHash !== undefined && hashedOutput !== undefined) {
    const realisation = { drvHash, drvPath: '', output: hashedOutput, outPath: '' };
    return { layout: hashed, realisation };
  }
  const [, drvName, output] = tracedKey.exec(key) ?? [];
  if (drvName === undefined || output === undefined) return null;
  const drvPath = `${storeDir}/${drvName}`;
  return { layout: traced, realisation: { drvHash: '', drvPath, output, outPath: '' } };
}

/**
 * Returns the text that the signatures of a stored realisation sign.
 *
 * @returns null when `key` is not that of a realisation
 */
export function storedFingerprint(
  key: string,
  { outPath }: RealisationValue,
  storeDir: string,
): string | null {
  const parsed = parseRealisationKey(key, storeDir);
  return parsed?.layout.fingerprint({ ...parsed.realisation, outPath }, storeDir) ?? null;
}

function malformed(reason: string, cause?: unknown): NicheError {
  return new NicheError(
    'malformed-realisation',
    `malformed realisation: ${reason}`,
    cause === undefined ? undefined : { cause },
  );
}
