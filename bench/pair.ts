import type { Cost } from './measure.ts';
import { spread } from './result.ts';
import type { Comparison, Side } from './result.ts';

/** One side of a comparison. */
export interface Contestant {
  /** The program and its version. */
  readonly label: string;
  run(): Promise<Cost>;
  /** Bytes that the last run stored. */
  readonly storedBytes?: () => Promise<number>;
}

const mib = 2 ** 20;

/** Runs A B A B …, so that other load on the machine affects both sides alike. */
export async function compare(
  name: string,
  ours: Contestant,
  peer: Contestant,
  rounds: number,
): Promise<Comparison> {
  const pairs: { ours: Cost; peer: Cost }[] = [];
  for (let round = 0; round < rounds; round += 1) {
    pairs.push({ ours: await ours.run(), peer: await peer.run() });
  }
  const stored = [await ours.storedBytes?.(), await peer.storedBytes?.()] as const;
  const [ourBytes, peerBytes] = stored;
  return {
    kind: 'comparison',
    name,
    ours: side(
      ours.label,
      pairs.map((pair) => pair.ours),
    ),
    peer: side(
      peer.label,
      pairs.map((pair) => pair.peer),
    ),
    speed: spread(pairs.map((pair) => pair.peer.wallSeconds / pair.ours.wallSeconds)),
    cpu: spread(pairs.map((pair) => pair.peer.cpuSeconds / pair.ours.cpuSeconds)),
    ...(ourBytes !== undefined && peerBytes !== undefined ? { size: ourBytes / peerBytes } : {}),
  };
}

function side(label: string, costs: readonly Cost[]): Side {
  return {
    label,
    wallSeconds: spread(costs.map(({ wallSeconds }) => wallSeconds)),
    cpuSeconds: spread(costs.map(({ cpuSeconds }) => cpuSeconds)),
    peakMib: Math.max(...costs.map(({ peakBytes }) => peakBytes)) / mib,
  };
}
