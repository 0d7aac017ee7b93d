import type { TestPath } from '../support/cache/paths.ts';
import { testPath } from '../support/cache/paths.ts';

/** The paths of one batch. */
export type BatchPaths = readonly TestPath[];

/** What an administrator does before the next step. */
export type AdminStep =
  | { readonly kind: 'block' | 'unblock'; readonly path: TestPath }
  | { readonly kind: 'stage'; readonly upload: readonly BatchPaths[] }
  | { readonly kind: 'resign' | 'rotate' | 'redeploy' | 'retire' };

/** What clients and administrators do. The seed decides in which order, and what fails. */
export interface Scenario {
  readonly name: string;
  /** The batches of each upload. */
  readonly uploads: readonly (readonly BatchPaths[])[];
  /** Paths that a client stages only when a receipt reports them as missing. */
  readonly onDemand?: readonly TestPath[];
  readonly upstream?: readonly TestPath[];
  /** The steps of each administrator. */
  readonly admins?: readonly (readonly AdminStep[])[];
}

const far = await testPath('far');
const a = await testPath('a');
const b = await testPath('b', { references: [a] });
const c = await testPath('c', { references: [a, b], selfReference: true });
const e = await testPath('e', { references: [far, b] });
const never = await testPath('never');
const g = await testPath('g', { references: [a, never] });
const twin = await testPath('twin', { references: [a], contents: 'one' });
const otherTwin = await testPath('twin', { references: [a], contents: 'other' });
const bad = await testPath('bad');
const lie = { ...bad, info: { ...bad.info, narHash: a.info.narHash } };
const ofLie = await testPath('of-lie', { references: [lie] });

export const scenarios: readonly Scenario[] = [
  { name: 'pair', uploads: [[[b], [a]]] },
  { name: 'chain', uploads: [[[b], [a]], [[c, a]]] },
  { name: 'one-batch', uploads: [[[c, b, a]], [[a, b]]] },
  { name: 'on-demand', uploads: [[[c, b]]], onDemand: [a] },
  { name: 'twins', uploads: [[[twin, a]], [[otherTwin], [a]]] },
  { name: 'waiting', uploads: [[[g, b]], [[a]]] },
  { name: 'lie', uploads: [[[a, lie]], [[ofLie, b]]] },
  { name: 'upstream', uploads: [[[e], [b]], [[a]]], upstream: [far] },
  {
    name: 'resign',
    uploads: [[[b], [a]], [[a]]],
    admins: [[{ kind: 'rotate' }, { kind: 'redeploy' }, { kind: 'resign' }, { kind: 'retire' }]],
  },
  { name: 'block', uploads: [[[b], [a]], [[a]]], admins: [[{ kind: 'block', path: a }]] },
  {
    name: 'resign-block',
    uploads: [[[a]]],
    admins: [
      [{ kind: 'rotate' }, { kind: 'redeploy' }, { kind: 'resign' }],
      [{ kind: 'block', path: a }],
    ],
  },
  {
    name: 'unblock',
    uploads: [[[a]], [[b]]],
    admins: [
      [
        { kind: 'block', path: a },
        { kind: 'unblock', path: a },
        { kind: 'stage', upload: [[b, a]] },
      ],
    ],
  },
];

export function scenarioOfSeed(seed: number): Scenario {
  return scenarios[seed % scenarios.length]!;
}

export function findScenario(name: string): Scenario {
  const found = scenarios.find((scenario) => scenario.name === name);
  if (found) return found;
  throw new Error(`no scenario ${name}: expected ${scenarios.map((each) => each.name).join(', ')}`);
}
