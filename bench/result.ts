/** One line of the bench: what a thing took here, and beside its peer. */
export interface Comparison {
  readonly kind: 'comparison';
  readonly name: string;
  readonly ours: Side;
  readonly peer: Side;
  /** How many times as fast as the peer, pair by pair. */
  readonly speed: Spread;
  /** The peer's CPU seconds by ours, pair by pair: above 1, we work less. */
  readonly cpu: Spread;
  /** What was stored, ours by the peer's, where something was. */
  readonly size?: number;
}

/** One line of the bench: what passes through in a second. */
export interface Throughput {
  readonly kind: 'throughput';
  readonly name: string;
  readonly mbPerSecond: Spread;
}

export type Result = Comparison | Throughput;

export interface Side {
  /** What ran. */
  readonly label: string;
  readonly wallSeconds: Spread;
  readonly cpuSeconds: Spread;
  readonly peakMib: number;
}

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** @param values at least one */
export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length / 2;
  const median = (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}
