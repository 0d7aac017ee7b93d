const firstMs = 100;
const growth = 1.2;
const maxMs = 1000;

/**
 * How long to wait before each look at something, in milliseconds: what is there soon is seen soon, and
 * what takes long does not cost more looks than four a second would.
 */
export function* pollDelays(): Generator<number, never> {
  for (let delayMs = firstMs; ; delayMs = Math.min(delayMs * growth, maxMs)) yield delayMs;
}
