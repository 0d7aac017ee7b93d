import { describe, it } from 'node:test';
import { raceWithdrawal } from '../../../support/cache/withdraw-race.ts';

const schedules = 10_000;

describe('a withdrawal that races with publishers, resign and the queue', () => {
  it(`leaves nothing visible that is blocked, in ${schedules} schedules`, async () => {
    // Other seeds than those of the fast test.
    for (let seed = 1_000_000; seed < 1_000_000 + schedules; seed += 1) {
      await raceWithdrawal(seed).catch((cause: unknown) => {
        throw new Error(`raceWithdrawal(${seed}) failed`, { cause });
      });
    }
  });
});
