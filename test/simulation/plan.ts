import { createRandom } from './random.ts';
import type { Random } from './random.ts';
import type { Fault } from './scheduler.ts';

/** What varies between the schedules of a scenario, besides the order of operations. */
export interface Plan {
  readonly stickiness: number;
  readonly lateness: number;
  /** Objects in a page of a listing. */
  readonly pageSize: number;
  readonly createsInOrder: boolean;
  /** Whether markers of attempts are scheduled like other objects. They seldom matter, and cost a lot. */
  readonly schedulesMarkers: boolean;
  /** Probabilities of each step. */
  readonly death: number;
  /** Publishers that may end by a fault. After five at one path, the path is rejected. */
  readonly maxDeaths: number;
  readonly repeat: number;
  readonly sweep: number;
  readonly advance: number;
  readonly start: number;
  /** The probability that an event never arrives. */
  readonly loss: number;
  /** Returns the fault of a step. It does not depend on other steps, so that one can be left out. */
  readonly faultAt: (step: number) => Fault | null;
}

const faults: readonly Fault[] = ['throttled', 'lost', 'died'];

export function drawPlan(seed: number, random: Random, without: ReadonlySet<number>): Plan {
  const rate = (...rates: readonly number[]): number => random.pick(rates);
  const faultRate = rate(0, 0, 0.01, 0.03, 0.06);
  return {
    stickiness: rate(0, 0, 0.5, 0.9, 0.97),
    lateness: rate(0, 0.1, 0.4),
    pageSize: rate(Infinity, Infinity, Infinity, 1, 2),
    createsInOrder: random.chance(0.3),
    schedulesMarkers: random.chance(0.2),
    death: rate(0, 0, 0.005, 0.02),
    maxDeaths: rate(4, 4, 4, 20),
    repeat: rate(0, 0.01, 0.03),
    sweep: rate(0, 0, 0.005, 0.02),
    advance: rate(0, 0, 0.01, 0.03),
    start: rate(0.05, 0.2, 0.6),
    loss: rate(0, 0, 0.3, 1),
    faultAt(step) {
      if (faultRate === 0 || without.has(step)) return null;
      const own = createRandom(Math.imul(seed, 0x9e3779b1) ^ Math.imul(step, 0x85ebca6b));
      return own.chance(faultRate) ? own.pick(faults) : null;
    },
  };
}
