export type Random = (below: number) => number;

/** Returns random numbers that depend only on the seed (linear congruential, modulo 2^32). */
export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
