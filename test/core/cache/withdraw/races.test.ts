import { describe, it } from 'node:test';
import { raceWithdrawal } from '../../../support/cache/withdraw-race.ts';

const schedules = 200;

describe('a withdrawal that races with publishers, resign and the queue', () => {
  it('leaves nothing visible that is blocked', async () => {
    for (let seed = 0; seed < schedules; seed += 1) {
      await raceWithdrawal(seed).catch((cause: unknown) => {
        throw new Error(`raceWithdrawal(${seed}) failed`, { cause });
      });
    }
  });
});
