import { createHash } from 'node:crypto';

import { NicheError, quote } from '../errors.ts';
import { isList, isMap } from './json-tree.ts';
import type { JsonMap, JsonValue } from './json-tree.ts';
import { decryptLeaf, encryptLeaf, leafBytes } from './sops-value.ts';
import type { Leaf } from './sops-value.ts';

/**
 * The SHA-256 of `sops`. It separates a MAC of the encrypted values from a MAC of all values.
 *
 * @see https://github.com/getsops/sops/blob/main/sops.go, MACOnlyEncryptedInitialization
 */
const macOnlyEncryptedPrefix = createHash('sha256').update('sops').digest();

export interface TreeRules {
  /** Returns whether the value at a path of member names is encrypted. */
  readonly isEncrypted: (path: readonly string[]) => boolean;
  readonly macOnlyEncrypted: boolean;
}

/** The resulting tree, and its MAC: the SHA-512 of its plain values in order, in upper-case hex. */
export interface Walked<T> {
  readonly tree: ReadonlyMap<string, T>;
  readonly mac: string;
}

/** A decrypted value: as in JSON, except that text that is not UTF-8 is bytes. */
export type SecretValue =
  null | boolean | string | number | bigint | Uint8Array | readonly SecretValue[] | SecretMap;

export type SecretMap = ReadonlyMap<string, SecretValue>;

/** Encrypts a document's values. Member names, `null` and the structure stay readable. */
export function encryptTree(
  tree: SecretMap,
  dataKey: Uint8Array,
  rules: TreeRules,
): Walked<JsonValue> {
  const mac = createMac(rules);

  function value(plain: SecretValue, path: readonly string[]): JsonValue {
    if (plain === null) return null;
    if (plain instanceof Uint8Array) return leaf(plain, path);
    if (Array.isArray(plain)) return (plain as SecretValue[]).map((item) => value(item, path));
    if (plain instanceof Map) return map(plain as SecretMap, path);
    return leaf(plain as Leaf, path);
  }

  function leaf(plain: Leaf, path: readonly string[]): JsonValue {
    const isEncrypted = rules.isEncrypted(path);
    mac.add(plain, isEncrypted);
    if (isEncrypted) return encryptLeaf(plain, dataKey, additionalData(path));
    if (plain instanceof Uint8Array) throw new TypeError('bytes cannot be left unencrypted');
    return plain;
  }

  function map(plain: SecretMap, path: readonly string[]): Map<string, JsonValue> {
    return new Map([...plain].map(([name, member]) => [name, value(member, [...path, name])]));
  }

  return { tree: map(tree, []), mac: mac.digest() };
}

/**
 * Decrypts a document's values. The caller must check the MAC.
 *
 * @throws NicheError `malformed-secrets`, `altered-secrets`; the message contains the path
 */
export function decryptTree(
  tree: JsonMap,
  dataKey: Uint8Array,
  rules: TreeRules,
  where: string,
): Walked<SecretValue> {
  const mac = createMac(rules);

  function values(encrypted: JsonValue, path: readonly string[]): SecretValue[] {
    if (encrypted === null) return [null];
    if (isList(encrypted)) return [encrypted.flatMap((item) => values(item, path))];
    if (isMap(encrypted)) return [map(encrypted, path)];
    if (!rules.isEncrypted(path)) {
      mac.add(encrypted, false);
      return [encrypted];
    }
    const name = `${where}: ${quote(path.join('.'))}`;
    if (typeof encrypted !== 'string') {
      throw new NicheError('malformed-secrets', `${name}: expected an encrypted value`);
    }
    const { value, isComment } = decryptLeaf(encrypted, dataKey, additionalData(path), name);
    // A comment, from a document that was converted from YAML.
    if (isComment) return [];
    mac.add(value, true);
    return [value];
  }

  function map(encrypted: JsonMap, path: readonly string[]): Map<string, SecretValue> {
    return new Map(
      [...encrypted].flatMap(([name, member]) =>
        values(member, [...path, name]).map((value) => [name, value] as const),
      ),
    );
  }

  return { tree: map(tree, []), mac: mac.digest() };
}

function additionalData(path: readonly string[]): string {
  return `${path.join(':')}:`;
}

function createMac({ macOnlyEncrypted }: TreeRules): {
  add(value: Leaf, isEncrypted: boolean): void;
  digest(): string;
} {
  const hash = createHash('sha512');
  if (macOnlyEncrypted) hash.update(macOnlyEncryptedPrefix);
  return {
    add(value, isEncrypted) {
      if (isEncrypted || !macOnlyEncrypted) hash.update(leafBytes(value));
    },
    digest: () => hash.digest('hex').toUpperCase(),
  };
}
