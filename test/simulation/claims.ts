import type { PathInfo } from '../../core/nix/path-info.ts';
import { narHashOf } from '../support/cache/paths.ts';
import type { TestPath } from '../support/cache/paths.ts';
import type { ChecksOptions } from './checks.ts';
import type { Scenario } from './scenarios.ts';

/** Decides which paths of a scenario have to be published. */
export function judgeClaims(scenario: Scenario): Pick<ChecksOptions, 'isValid' | 'isContested'> {
  const known = judged.get(scenario) ?? judge(scenario);
  judged.set(scenario, known);
  return known;
}

const judged = new WeakMap<Scenario, Pick<ChecksOptions, 'isValid' | 'isContested'>>();

function judge(scenario: Scenario): Pick<ChecksOptions, 'isValid' | 'isContested'> {
  const { uploads, onDemand = [], upstream = [], admins = [] } = scenario;
  const late = admins.flat().flatMap((step) => (step.kind === 'stage' ? step.upload : []));
  const staged = [...uploads.flat(), ...late].flat().concat(onDemand);
  const isTrue = ({ info, nar }: TestPath): boolean => narHashOf(nar) === info.narHash;
  const available = new Set(upstream.map(({ info }) => info.path));
  for (let before = -1; before !== available.size;) {
    before = available.size;
    for (const path of staged) {
      const { path: name, references } = path.info;
      const isReady = references.every((each) => each === name || available.has(each));
      if (isTrue(path) && isReady) available.add(name);
    }
  }
  const valid = new Set(
    staged.filter((path) => isTrue(path) && available.has(path.info.path)).map(keyOf),
  );
  return {
    isValid: (info) => valid.has(keyOf({ info })),
    isContested: ({ path }) =>
      new Set(staged.filter(({ info }) => info.path === path).map(keyOf)).size > 1,
  };
}

const keyOf = ({ info }: { readonly info: PathInfo }): string => `${info.path} ${info.narHash}`;
