import { randomBytes } from 'node:crypto';

import { NicheError } from '../errors.ts';

/**
 * Shamir's secret sharing over GF(2^8), byte by byte, in the format of Vault and SOPS: a share is the
 * value of each byte's polynomial at x, followed by x. The field is that of AES, x⁸ + x⁴ + x³ + x + 1.
 *
 * @see https://github.com/getsops/sops/blob/main/shamir/shamir.go
 */

/** The most shares of a secret: the nonzero elements of the field. */
const maxParts = 255;

/** Multiplies in constant time, without a branch or table that depends on the secret. */
function multiply(a: number, b: number): number {
  let product = 0;
  for (let bit = 7; bit >= 0; bit -= 1) {
    const carry = -(product >> 7) & 0x1b;
    product = (((product << 1) & 0xff) ^ carry ^ (-((b >> bit) & 1) & a)) & 0xff;
  }
  return product;
}

/** Returns the inverse, which is the 254th power; 0 for 0. */
function invert(a: number): number {
  let power = 1;
  for (let bit = 7; bit >= 0; bit -= 1) {
    power = multiply(power, power);
    if ((254 >> bit) & 1) power = multiply(power, a);
  }
  return power;
}

/**
 * Splits `secret` into shares. Any `threshold` of them restore it; fewer reveal nothing.
 *
 * @throws NicheError `usage` for an impossible threshold
 */
export function splitSecret(secret: Uint8Array, parts: number, threshold: number): Uint8Array[] {
  if (!(threshold >= 2 && threshold <= parts && parts <= maxParts) || secret.length === 0) {
    throw new NicheError(
      'usage',
      `splitting a data key: expected 2 ≤ threshold ≤ groups ≤ ${maxParts}, got a threshold of ${threshold} of ${parts} groups`,
    );
  }
  const polynomials = [...secret].map((byte) => ({
    byte,
    coefficients: randomBytes(threshold - 1),
  }));
  return Array.from({ length: parts }, (_, index) => {
    const x = index + 1;
    const values = polynomials.map(({ byte, coefficients }) => {
      // Horner's rule, from the highest power down to the secret itself.
      const rest = coefficients.reduce((sum, coefficient) => multiply(sum, x) ^ coefficient, 0);
      return multiply(rest, x) ^ byte;
    });
    return Uint8Array.from([...values, x]);
  });
}

/**
 * Combines shares of {@link splitSecret}. Too few or altered shares yield other bytes and no error:
 * the caller must authenticate the result.
 *
 * @throws NicheError `altered-secrets` for shares that cannot belong to one secret
 */
export function combineSecret(parts: readonly Uint8Array[]): Uint8Array {
  const length = (parts[0]?.length ?? 0) - 1;
  const xs = parts.map((part) => part.at(-1) ?? 0);
  const isSound =
    parts.length >= 2 &&
    length >= 1 &&
    parts.every((part) => part.length === length + 1) &&
    new Set(xs).size === xs.length &&
    !xs.includes(0);
  if (!isSound) {
    throw new NicheError(
      'altered-secrets',
      'combining the data key: the shares do not belong to one key',
    );
  }
  // Lagrange's weights at 0; in this field, subtraction is addition.
  const weights = xs.map((x, index) =>
    xs.reduce(
      (weight, other, at) =>
        at === index ? weight : multiply(weight, multiply(other, invert(other ^ x))),
      1,
    ),
  );
  return Uint8Array.from({ length }, (_, at) =>
    parts.reduce((sum, part, index) => sum ^ multiply(part[at] ?? 0, weights[index] ?? 0), 0),
  );
}
