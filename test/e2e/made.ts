import type { TestContext } from 'node:test';

import { createMachine, type Machine } from '../support/lab/e2e-machine.ts';

/** A cache in a bucket, in the format of `niche init --json`. */
export interface Made {
  readonly storage: string;
  readonly staging: string;
  readonly private: string;
  readonly substituter: string;
  readonly publicKey: string;
}

/** Creates a cache at `url`, and its buckets. */
export async function initCache(
  machine: Machine,
  url: string,
  env: Readonly<Record<string, string>>,
): Promise<Made> {
  const args = ['init', url, '--create', '--name', 'acme', '--no-upstream', '--json'];
  return JSON.parse((await machine.nicheDoes(args, { env })).stdout) as Made;
}

/** Creates a machine with an empty store, configured with only the cache's URL and key. */
export async function readerOf(
  t: TestContext,
  machine: Machine,
  { substituter, publicKey }: Pick<Made, 'substituter' | 'publicKey'>,
): Promise<Machine> {
  return createMachine(t, {
    nix: machine.nix,
    trustedPublicKeys: [publicKey],
    settings: { substituters: substituter, 'require-sigs': 'true' },
  });
}
