import type { Realisation } from '../../core/nix/realisation.ts';
import type { TestPath } from '../support/cache/paths.ts';
import { inventedPath, testPath } from '../support/cache/paths.ts';

/** The paths of one batch. */
export type BatchPaths = readonly TestPath[];

/** What an administrator does before the next step. `purge` is about the contents of the path. */
export type AdminStep =
  | { readonly kind: 'block' | 'unblock' | 'purge'; readonly path: TestPath }
  | { readonly kind: 'stage'; readonly upload: readonly BatchPaths[] }
  | { readonly kind: 'resign' | 'rotate' | 'redeploy' | 'retire' };

/** What clients and administrators do. The seed decides in which order, and what fails. */
export interface Scenario {
  readonly name: string;
  /** Its share of the schedules of a mix. Scenarios that take longer have smaller shares. */
  readonly weight: number;
  /** The batches of each upload. */
  readonly uploads: readonly (readonly BatchPaths[])[];
  /** The realisations of further uploads, each with one batch. */
  readonly realisations?: readonly (readonly Realisation[])[];
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
const copy = await testPath('copy', { contents: 'the contents of a' });
const never = await testPath('never');
const g = await testPath('g', { references: [a, never] });
const twin = await testPath('twin', { references: [a], contents: 'one' });
const otherTwin = await testPath('twin', { references: [a], contents: 'other' });
const bad = await testPath('bad');
const lie = { ...bad, info: { ...bad.info, narHash: a.info.narHash } };
const ofLie = await testPath('of-lie', { references: [lie] });

/** Another output of the derivation of `a`. */
const rival = renamed(await testPath('rival'), 'a');
const ofA = realisationOf('a', a);
const ofRival = realisationOf('a', rival);
const ofB = realisationOf('b', b);

export const scenarios: readonly Scenario[] = [
  { name: 'pair', weight: 6, uploads: [[[b], [a]]] },
  { name: 'chain', weight: 2, uploads: [[[b], [a]], [[c, a]]] },
  { name: 'one-batch', weight: 2, uploads: [[[c, b, a]], [[a, b]]] },
  { name: 'on-demand', weight: 2, uploads: [[[c, b]]], onDemand: [a] },
  { name: 'twins', weight: 3, uploads: [[[twin, a]], [[otherTwin], [a]]] },
  { name: 'waiting', weight: 3, uploads: [[[g, b]], [[a]]] },
  { name: 'lie', weight: 3, uploads: [[[a, lie]], [[ofLie, b]]] },
  { name: 'upstream', weight: 2, uploads: [[[e], [b]], [[a]]], upstream: [far] },
  {
    name: 'resign',
    weight: 1,
    uploads: [[[b], [a]], [[a]]],
    admins: [[{ kind: 'rotate' }, { kind: 'redeploy' }, { kind: 'resign' }, { kind: 'retire' }]],
  },
  {
    name: 'block',
    weight: 4,
    uploads: [[[b], [a]], [[a]]],
    admins: [[{ kind: 'block', path: a }]],
  },
  {
    name: 'resign-block',
    weight: 1,
    uploads: [[[a]]],
    admins: [
      [{ kind: 'rotate' }, { kind: 'redeploy' }, { kind: 'resign' }],
      [{ kind: 'block', path: a }],
    ],
  },
  {
    name: 'unblock',
    weight: 2,
    uploads: [[[a]], [[b]]],
    admins: [
      [
        { kind: 'block', path: a },
        { kind: 'unblock', path: a },
        { kind: 'stage', upload: [[b, a]] },
      ],
    ],
  },
  {
    name: 'realisations',
    weight: 2,
    uploads: [[[b], [a]], [[rival]]],
    realisations: [[ofA, ofB], [ofRival]],
  },
  {
    name: 'realisations-block',
    weight: 2,
    uploads: [[[a]], [[rival]]],
    realisations: [[ofA], [ofRival]],
    admins: [[{ kind: 'block', path: a }]],
  },
  {
    name: 'purge',
    weight: 2,
    uploads: [[[b], [a]], [[copy]]],
    admins: [[{ kind: 'purge', path: a }]],
  },
];

function renamed(path: TestPath, name: string): TestPath {
  return { ...path, info: { ...path.info, path: path.info.path.replace(/[^-]*$/, name) } };
}

function realisationOf(drvName: string, { info }: TestPath): Realisation {
  const drvHash = `sha256:${Buffer.from(drvName).toString('hex').padEnd(64, '0')}`;
  return { drvHash, drvPath: inventedPath(`${drvName}.drv`), output: 'out', outPath: info.path };
}

const mix = scenarios.flatMap((scenario) =>
  Array.from({ length: scenario.weight }, () => scenario),
);

/** Returns the scenario of a seed in a mix of all of them. */
export function scenarioOfSeed(seed: number): Scenario {
  return mix[seed % mix.length]!;
}

export function findScenario(name: string): Scenario {
  const found = scenarios.find((scenario) => scenario.name === name);
  if (found) return found;
  throw new Error(`no scenario ${name}: expected ${scenarios.map((each) => each.name).join(', ')}`);
}
