import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';

import { openNix, type Nix } from '../../../cli/nix/nix.ts';
import { watchBuild } from '../../../cli/watch/watch.ts';
import { createNixLab, everyNix } from '../../support/lab/nix-lab.ts';
import { collect } from '../../cli/nix/collect.ts';
import { nameOf, writeGraph } from './noticing.ts';

/** An evaluation that does not end during the test. */
const endless = 'let f = n: if n == 0 then 0 else f (n - 1) + f (n - 1); in f 60';

function unexpected(message: string): never {
  assert.fail(message);
}

for (const version of everyNix()) {
  describe(`interrupting nix ${version.version}`, () => {
    for (const signal of ['SIGINT', 'SIGKILL'] as const) {
      test(`paths built before ${signal} are detected while nix runs`, async (t) => {
        const lab = await createNixLab({ nix: version });
        t.after(() => lab.close());
        const parts = [{ name: 'leaf' }, { name: 'slow', deps: ['leaf'], sleepSeconds: 20 }];
        await writeGraph(lab, parts, signal);
        const nix = await openNix({ env: lab.env, cwd: lab.work });
        const args = ['-A', 'slow', '--no-out-link'];
        const onWarning = unexpected;
        const common = { nix, env: lab.env, command: 'nix-build', args, onWarning };
        const noticing = await watchBuild(common);
        const hook = /^post-build-hook = (.*)$/mu.exec(noticing.env['NIX_CONFIG'] ?? '')?.[1] ?? '';
        assert.ok(existsSync(hook));

        const child = spawn('nix-build', args, {
          cwd: lab.work,
          env: noticing.env,
          stdio: 'ignore',
        });
        noticing.commandStarted(child.pid!);
        const names: string[] = [];
        const seen = Promise.withResolvers<undefined>();
        const reading = (async () => {
          for await (const noticed of noticing.paths) {
            names.push(nameOf(noticed.path));
            seen.resolve(undefined);
          }
        })();
        await seen.promise;
        // Nix may miss a signal that arrives just before it waits for its builders.
        const insisting = setInterval(() => child.kill(signal), 200);
        await once(child, 'exit');
        clearInterval(insisting);
        assert.ok(existsSync(hook), 'it stays until nix has ended');
        noticing.commandEnded(130);
        await reading;
        assert.deepEqual(names, ['leaf']);
        await noticing.close();
        assert.ok(!existsSync(path.dirname(hook)));
      });
    }

    test('closing does not wait for an evaluation', async (t) => {
      const lab = await createNixLab({ nix: version });
      t.after(() => lab.close());
      const nix = await openNix({ env: lab.env, cwd: lab.work });
      const args = ['-E', endless];
      const onWarning = unexpected;
      const evaluates = Promise.withResolvers<undefined>();
      const ask: Nix['ask'] = (tool, asked, options) => {
        if (tool === 'nix-instantiate') evaluates.resolve(undefined);
        return nix.ask(tool, asked, options);
      };
      const common = { nix: { ...nix, ask }, env: lab.env, command: 'nix-build', args, onWarning };
      const noticing = await watchBuild(common);
      noticing.commandEnded(100);
      await evaluates.promise;
      await noticing.close();
      assert.deepEqual(await collect(noticing.paths), []);
    });
  });
}
