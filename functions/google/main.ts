/** The entry of both functions; each deployment names the one that it is. */
import { cloudEvent, http } from '@google-cloud/functions-framework';

import { createPublishHandler, createSweepHandler } from './handlers.ts';
import { createGoogleRuntime } from './runtime.ts';
import type { GoogleRuntime } from './runtime.ts';

let current: GoogleRuntime | undefined;

/** Made by the first invocation: a setting that is wrong must be in the log of each that it fails. */
function runtime(): GoogleRuntime {
  const write = (line: string): void => void process.stdout.write(`${line}\n`);
  return (current ??= createGoogleRuntime(process.env, write));
}

cloudEvent('publish', createPublishHandler(runtime));
http('sweep', createSweepHandler(runtime));
