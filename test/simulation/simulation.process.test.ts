import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { makeCryptoDeterministic } from './determinism.ts';

makeCryptoDeterministic();
const { mutations } = await import('./mutations.ts');
const { runSchedule } = await import('./schedule.ts');
const { findScenario, scenarios } = await import('./scenarios.ts');

const schedulesPerScenario = 30;
/** The most schedules that it takes to find a mutation. */
const maxSchedules = 2000;

describe('every schedule keeps the invariants', () => {
  for (const scenario of scenarios) {
    it(scenario.name, async () => {
      for (let seed = 1; seed <= schedulesPerScenario; seed += 1) {
        const { failure } = await runSchedule({ scenario, seed });
        assert.equal(failure, null, `--scenario ${scenario.name} --seed ${seed}: ${failure}`);
      }
    });
  }
});

it('a seed repeats its schedule', async () => {
  const scenario = findScenario('chain');
  const record = async (): Promise<string[]> => {
    const lines: string[] = [];
    await runSchedule({ scenario, seed: 5, trace: (line) => void lines.push(line) });
    return lines;
  };
  assert.deepEqual(await record(), await record());
});

describe('the simulation finds a publisher whose', () => {
  for (const mutation of mutations) {
    it(mutation.name, async () => {
      const scenario = findScenario(mutation.scenario);
      for (let seed = 1; seed <= maxSchedules; seed += 1) {
        const { failure } = await runSchedule({ scenario, seed, mutation });
        // It may break other invariants too, and earlier.
        if (failure?.message.startsWith(`${mutation.breaks}:`) === true) return;
      }
      assert.fail(`no schedule of ${maxSchedules} breaks ${mutation.breaks}`);
    });
  }
});
