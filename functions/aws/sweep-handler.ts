import { noting } from '../shared/noting.ts';
import { runSweep } from '../shared/run.ts';
import type { AwsRuntime, LambdaContext } from './runtime.ts';

/** Finishes what was dropped; called by a schedule, whatever its event says. */
export function createSweepHandler(
  runtime: () => AwsRuntime,
): (event: unknown, context: LambdaContext) => Promise<void> {
  return async (_event, context) => {
    const { deployment, ...current } = runtime();
    await current.invoke(context, async (log, counter) => {
      await noting(log, counter, () => runSweep(deployment, { log, counter }));
    });
  };
}
