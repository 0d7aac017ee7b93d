import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Output } from '../../../cli/process/context.ts';
import { createWorkerLog } from '../../../cli/worker/log.ts';
import type { Outcome } from '../../../core/cache/receipts/receipts.ts';

/** Returns the line that a worker writes about a path with this outcome. */
function lineOf(outcome: Outcome): string {
  let written = '';
  const output: Output = {
    write: (text) => (written += text),
    clearLine: () => undefined,
    isTty: false,
    columns: 80,
  };
  const log = createWorkerLog({ stdout: output, stderr: output }, false);
  log.path({ path: '/nix/store/x-app', narSize: 1, upload: 'upload', outcome });
  return written;
}

test('a worker gives the reason for which a path waits', () => {
  assert.equal(
    lineOf({ status: 'waiting', missing: ['/nix/store/y-lib'] }),
    'waiting /nix/store/x-app: 1 reference missing\n',
  );
  const message = 'comparing /nix/store/x-app with its upstream: it is unusable';
  assert.equal(
    lineOf({ status: 'waiting', code: 'upstream-unavailable', message }),
    `waiting (upstream-unavailable) ${message}\n`,
  );
});

test('a worker logs the warnings of a path', () => {
  assert.equal(
    lineOf({ status: 'published', warnings: ['its receipt was given up: denied'] }),
    'published /nix/store/x-app, warning: its receipt was given up: denied\n',
  );
});
