import { randomBytes } from 'node:crypto';

import { NicheError } from '../errors.ts';

/**
 * Shamir's secret sharing over GF(2^8), byte by byte, in the form that Vault and SOPS share: a part
 * is the polynomials' values at x, and then x. The field is that of AES, x⁸ + x⁴ + x³ + x + 1.
 */

/** Parts of one secret at most. */
const maxParts = 255;

/** Without a branch or a table that depends on the secret. */
function multiply(a: number, b: number): number {
  let product = 0;
  for (let bit = 7; bit >= 0; bit -= 1) {
    const carry = -(product >> 7) & 0x1b;
    product = (((product << 1) & 0xff) ^ carry ^ (-((b >> bit) & 1) & a)) & 0xff;
  }
  return product;
}

/** The inverse is the 254th power; 0 has none and gives 0. */
function invert(a: number): number {
  let power = 1;
  for (let bit = 7; bit >= 0; bit -= 1) {
    power = multiply(power, power);
    if ((254 >> bit) & 1) power = multiply(power, a);
  }
  return power;
}

/**
 * Splits `secret` into `parts`, of which any `threshold` give it back and fewer say nothing of it.
 *
 * @throws NicheError `usage` for numbers that make no sense
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
 * Joins parts of {@link splitSecret}. Too few, or altered ones, give other bytes, not an error: what
 * the secret opens tells.
 *
 * @throws NicheError `altered-secrets` for parts that cannot be of one secret
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
    throw new NicheError('altered-secrets', 'the parts of the data key are not of one key');
  }
  // Lagrange's weights at 0, where subtraction is addition.
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
