import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { formatHash } from '../../../core/nix/hash.ts';
import { readBuildLog } from '../../../cli/nix/logs.ts';
import { openNix } from '../../../cli/nix/nix.ts';
import { queryOutputs, queryPathInfos } from '../../../cli/nix/query.ts';
import { createNixLab, everyNix, type NixLab } from '../../support/lab/nix-lab.ts';
import { nameOf, note, writeGraph } from './noticing.ts';
import { temporaryFolder } from '../../cli/nix/temporary-folder.ts';

test('without nix on PATH', async (t) => {
  const folder = temporaryFolder(t);
  await assert.rejects(openNix({ env: { PATH: folder }, cwd: folder }), {
    code: 'nix-missing',
    message: /"nix"/u,
  });
  for (const name of ['nix', 'nix-store', 'nix-instantiate']) {
    const file = path.join(folder, name);
    writeFileSync(file, '#!/bin/sh\necho "error: it is broken" >&2\nexit 1\n');
    chmodSync(file, 0o755);
  }
  await assert.rejects(openNix({ env: { PATH: folder }, cwd: folder }), {
    code: 'nix-failed',
    message: /it is broken/u,
  });
});

for (const version of everyNix()) {
  describe(`querying nix ${version.version}`, () => {
    let lab: NixLab;
    let absent: string;
    before(async () => {
      // The default configuration: no experimental features.
      lab = await createNixLab({ nix: version, experimentalFeatures: [] });
      absent = `${lab.storeDir}/00000000000000000000000000000000-absent`;
      const parts = [
        { name: 'leaf', outputs: ['out', 'dev'] },
        { name: 'top', deps: ['leaf'] },
      ];
      await writeGraph(lab, parts);
    });
    after(() => lab.close());

    test('its version and settings', async () => {
      await lab.configure({ 'post-build-hook': '/etc/configured' });
      const env = { ...lab.env, NIX_CONFIG: 'extra-substituters = https://added.example' };
      const nix = await openNix({ env, cwd: lab.work });
      await lab.configure({ 'post-build-hook': '' });
      assert.match(nix.version, new RegExp(`${version.version}$`, 'u'));
      assert.equal(nix.storeDir, lab.storeDir);
      assert.equal(nix.realStoreDir, lab.realPath(lab.storeDir));
      assert.equal(nix.trusted, true);
      assert.equal(nix.settings.postBuildHook, '/etc/configured');
      assert.deepEqual(nix.settings.substituters, ['https://added.example']);
      const other = path.join(lab.folder, 'other');
      const elsewhere = await openNix({ env: lab.env, cwd: lab.work, storeUrl: other });
      assert.equal(elsewhere.realStoreDir, path.join(other, 'nix/store'));
    });

    test('path infos, outputs and logs of built and unbuilt derivations', async () => {
      const [top = ''] = (await lab.output('nix-build', ['-A', 'top', '--no-out-link'])).split(
        '\n',
      );
      const nix = await openNix({ env: lab.env, cwd: lab.work });
      const { valid, invalid } = await queryPathInfos(nix, [top, absent, top]);
      assert.deepEqual(invalid, [absent]);
      assert.deepEqual(
        valid.map((info) => info.path),
        [top],
      );
      const info = valid[0]!;
      assert.equal(info.ultimate, true);
      const nar = await nix.ask('nix-store', ['--dump', nix.realPath(top) ?? '']);
      const digest = createHash('sha256').update(nar.stdout).digest();
      assert.equal(info.narSize, nar.stdout.length);
      assert.equal(info.narHash, formatHash({ algorithm: 'sha256', digest }, 'base32'));

      const closure = await queryPathInfos(nix, [absent, top], { recursive: true });
      assert.deepEqual(closure.valid.map((one) => nameOf(one.path)).sort(), ['leaf', 'top']);
      assert.deepEqual(closure.invalid, [absent]);
      const nothing = { valid: [], invalid: [], unreadable: [] };
      assert.deepEqual(await queryPathInfos(nix, []), nothing);

      const drvPath = info.deriver!;
      assert.deepEqual(await queryOutputs(nix, drvPath), [top]);
      assert.equal(Buffer.from((await readBuildLog(nix, drvPath))!).toString(), 'building top\n');
      assert.equal(await readBuildLog(nix, `${absent}.drv`), null);
    });

    test('more paths than fit on one command line', async () => {
      const nix = await openNix({ env: lab.env, cwd: lab.work });
      const paths = Array.from({ length: 3000 }, (_, n) => `${absent}-${'x'.repeat(150)}${n}`);
      const { valid, invalid } = await queryPathInfos(nix, paths);
      assert.deepEqual([valid.length, invalid.length], [0, 3000]);
    });

    test('nix build works although the feature is not configured', async () => {
      await writeGraph(lab, [{ name: 'leaf', outputs: ['out', 'dev'] }], 'featureless');
      const noted = await note(lab, 'nix', ['build', '-f', 'default.nix', 'leaf', '-o', 'leaf']);
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.names, ['leaf', 'leaf-dev']);
      assert.deepEqual(noted.warnings, []);
      const config = await readFile(path.join(lab.folder, 'etc/nix.conf'), 'utf8');
      assert.match(config, /^experimental-features = $/mu);
    });
  });
}
