/** A result that compares niche with its peer. */
export interface Comparison {
  readonly kind: 'comparison';
  readonly name: string;
  readonly ours: Side;
  readonly peer: Side;
  /** The peer's time divided by niche's, for each pair. */
  readonly speed: Spread;
  /** The peer's CPU time divided by niche's, for each pair: above 1, niche uses less. */
  readonly cpu: Spread;
  /** The stored bytes of niche divided by the peer's, if anything was stored. */
  readonly size?: number;
}

/** A result with a throughput. */
export interface Throughput {
  readonly kind: 'throughput';
  readonly name: string;
  readonly mbPerSecond: Spread;
}

export type Result = Comparison | Throughput;

export interface Side {
  /** The programs and their versions. */
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
