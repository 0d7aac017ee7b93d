import assert from 'node:assert/strict';

import type { Captured } from '../../../cli/nix/capture.ts';
import type { Nix } from '../../../cli/nix/nix.ts';

/** Returns a fake nix that runs `answer` for every command. */
export function fakeNix(answer: (tool: string, args: readonly string[]) => Partial<Captured>): Nix {
  const unused = (): never => assert.fail();
  return {
    programs: { nix: 'nix', 'nix-store': 'nix-store', 'nix-instantiate': 'nix-instantiate' },
    version: 'nix (Fake) 1',
    storeDir: '/nix/store',
    realStoreDir: '/nix/store',
    trusted: true,
    settings: {
      store: 'auto',
      evalStore: null,
      substituters: [],
      trustedSubstituters: [],
      trustedPublicKeys: [],
      postBuildHook: null,
      netrcFile: null,
      hasJsonLog: false,
    },
    cwd: '/',
    realPath: unused,
    stream: unused,
    evalStore: null,
    ask: (tool, args) =>
      Promise.resolve({
        status: 0,
        stdout: Buffer.alloc(0),
        cut: false,
        stderr: '',
        ...answer(tool, args),
      }),
  };
}
