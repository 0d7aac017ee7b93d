/** The entry point of both functions. Each deployment selects one by its name. */
import { cloudEvent, http } from '@google-cloud/functions-framework';

import { lazily } from '../shared/invocation.ts';
import { useNetworkSettings } from '../shared/network.ts';
import { createPublishHandler, createSweepHandler } from './handlers.ts';
import { createGoogleRuntime } from './runtime.ts';

const runtime = lazily(() => {
  useNetworkSettings();
  return createGoogleRuntime(process.env, (line) => void process.stdout.write(`${line}\n`));
});

cloudEvent('publish', createPublishHandler(runtime));
http('sweep', createSweepHandler(runtime));
