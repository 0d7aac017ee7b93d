import fc from 'fast-check';
import { formatContentAddress } from '../../../core/nix/content-address.ts';
import { formatHash } from '../../../core/nix/hash.ts';
import type { Hash } from '../../../core/nix/hash.ts';
import { encodeBase32 } from '../../../core/nix/base32.ts';
import { formatSignature } from '../../../core/nix/keys.ts';

const bytes = (size: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: size, maxLength: size });

const characters = (alphabet: string): fc.Arbitrary<string> =>
  fc.constantFrom(...Array.from({ length: alphabet.length }, (_, index) => alphabet.charAt(index)));

export const hashes: fc.Arbitrary<Hash> = fc
  .constantFrom(
    { algorithm: 'md5' as const, size: 16 },
    { algorithm: 'sha1' as const, size: 20 },
    { algorithm: 'sha256' as const, size: 32 },
    { algorithm: 'sha512' as const, size: 64 },
    { algorithm: 'blake3' as const, size: 32 },
  )
  .chain(({ algorithm, size }) => bytes(size).map((digest) => ({ algorithm, digest })));

export const narHashes: fc.Arbitrary<string> = bytes(32).map((digest) =>
  formatHash({ algorithm: 'sha256', digest }, 'base32'),
);

const storeNames: fc.Arbitrary<string> = fc
  .string({
    unit: characters('abcxyzABCXYZ0123456789+-._?='),
    minLength: 1,
    maxLength: 211,
  })
  .filter((name) => !/^\.\.?(-|$)/.test(name));

export const storePaths: fc.Arbitrary<string> = fc
  .tuple(bytes(20), storeNames)
  .map(([hash, name]) => `/nix/store/${encodeBase32(hash)}-${name}`);

export const sortedStorePaths: fc.Arbitrary<string[]> = fc
  .uniqueArray(storePaths, { maxLength: 8 })
  .map((paths) => paths.sort());

export const contentAddresses: fc.Arbitrary<string> = fc
  .tuple(fc.constantFrom('text' as const, 'flat' as const, 'nar' as const, 'git' as const), hashes)
  .filter(([method, hash]) => method !== 'text' || hash.algorithm === 'sha256')
  .filter(([method, hash]) => method !== 'git' || /^sha(1|256)$/.test(hash.algorithm))
  .map(([method, hash]) => formatContentAddress({ method, hash }));

export const keyNames: fc.Arbitrary<string> = fc.string({
  unit: characters('abcXYZ019.-_+/é'),
  minLength: 1,
  maxLength: 30,
});

export const signatures: fc.Arbitrary<string> = fc
  .tuple(keyNames, bytes(64))
  .map(([name, signature]) => formatSignature({ name, signature }));
