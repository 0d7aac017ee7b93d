import { logFailures } from '../shared/log-outcomes.ts';
import { runSweep } from '../shared/run.ts';
import type { AwsRuntime, LambdaContext } from './runtime.ts';

/** Sweeps the cache. A schedule calls it, with an event that does not matter. */
export function createSweepHandler(
  runtime: () => AwsRuntime,
): (event: unknown, context: LambdaContext) => Promise<void> {
  return async (_event, context) => {
    const { deployment, ...current } = runtime();
    await current.invoke(context, (reporting) =>
      logFailures(reporting, () => runSweep(deployment, reporting)),
    );
  };
}
