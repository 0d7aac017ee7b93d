import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';

import packageJson from '../../package.json' with { type: 'json' };
import { nixSystem } from '../support/lab/nix-graph.ts';
import { createNixLab, requireNix, everyNix } from '../support/lab/nix-lab.ts';
import type { NixLab, NixVersion } from '../support/lab/nix-lab.ts';

const checkout = join(import.meta.dirname, '../..');
const nixFiles = ['flake.nix', 'default.nix', 'package.nix'];
/** The files that the package uses from the checkout. */
const sources = ['cli', 'core', 'functions', 'package.json', 'package-lock.json', 'scripts'];
/** Overrides every input, because Nix must evaluate the flake without fetching anything. */
const override = ['--override-input', 'nixpkgs', 'path:./nixpkgs', '--no-write-lock-file'];

/** Creates a lab with the checkout's packaging in `niche/` and the stub next to it. */
async function labFor(t: TestContext, nix: NixVersion): Promise<NixLab> {
  const lab = await createNixLab({ nix });
  t.after(() => lab.close());
  for (const name of [...nixFiles, ...sources]) {
    await cp(join(checkout, name), join(lab.work, 'niche', name), { recursive: true });
  }
  await cp(join(import.meta.dirname, 'nixpkgs'), join(lab.work, 'nixpkgs'), { recursive: true });
  return lab;
}

async function evaluate(lab: NixLab, attribute: string, apply = 'it: it'): Promise<unknown> {
  const args = ['eval', '--json', `path:./niche#${attribute}`, '--apply', apply, ...override];
  return JSON.parse(await lab.output('nix', args));
}

for (const nix of everyNix()) {
  test(`nix ${nix.version} evaluates the flake`, async (t) => {
    const lab = await labFor(t, nix);
    await lab.output('nix', ['flake', 'check', 'path:./niche', '--no-build', ...override]);
    for (const system of ['x86_64-linux', 'aarch64-linux', 'aarch64-darwin']) {
      const name = await evaluate(lab, `packages.${system}.default.name`);
      assert.equal(name, `niche-${packageJson.version}`);
      const { type, program } = (await evaluate(lab, `apps.${system}.default`)) as {
        readonly type: string;
        readonly program: string;
      };
      assert.equal(type, 'app');
      assert.match(program, /-niche-[0-9.]+\/bin\/niche$/);
    }
    const shell = await evaluate(lab, `devShells.${nixSystem}.default.packages`);
    assert.match(String(shell), /-node$/);
    const named = 'overlay: builtins.attrNames (overlay { callPackage = _: _: null; } { })';
    assert.deepEqual(await evaluate(lab, 'overlays.default', named), ['niche']);
  });

  test(`nix ${nix.version} evaluates default.nix`, async (t) => {
    const lab = await labFor(t, nix);
    const derivation = await lab.output('nix-instantiate', [
      ...['-E', '(import ./niche { pkgs = import ./nixpkgs { }; })'],
    ]);
    assert.match(derivation, new RegExp(`-niche-${packageJson.version}\\.drv$`));
  });
}

test('the phases build a working niche from the modules that the package lists', async (t) => {
  const nix = requireNix(t);
  if (nix === null) return;
  const lab = await labFor(t, nix);
  const phases = `{ configurePhase, buildPhase, installPhase, installCheckPhase, ... }:
    { inherit configurePhase buildPhase installPhase installCheckPhase; }`;
  const { configurePhase, buildPhase, installPhase, installCheckPhase } = (await evaluate(
    lab,
    `packages.${nixSystem}.default.drvAttrs`,
    phases,
  )) as Readonly<Record<string, string>>;

  const folder = await mkdtemp(join(tmpdir(), 'niche-nix-package-'));
  t.after(() => rm(folder, { recursive: true }));
  for (const name of sources) {
    await cp(join(checkout, name), join(folder, name), { recursive: true });
  }
  const modules = [...(configurePhase ?? '').matchAll(/mkdir -p (node_modules\/\S+)/g)];
  assert.ok(modules.length > 0);
  for (const [, name = ''] of modules) {
    assert.ok(existsSync(join(checkout, name)), name);
    // A nested module is copied with its parent.
    if (name.includes('/node_modules/')) continue;
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await symlink(join(checkout, name), join(folder, name));
  }
  const script = `set -euo pipefail
    runHook() { :; }
    makeWrapper() { mkdir -p "$(dirname "$2")"
      printf '#!/bin/sh\\nexec %s %s "$@"\\n' "$NODE" "$4" > "$2"; chmod +x "$2"; }
    ${buildPhase} ${installPhase} ${installCheckPhase}`;
  const { status, stdout, stderr } = spawnSync('bash', ['--norc', '-c', script], {
    cwd: folder,
    env: {
      PATH: [dirname(process.execPath), '/usr/bin', '/bin'].join(delimiter),
      NODE: process.execPath,
      out: join(folder, 'out'),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
  });
  assert.deepEqual([status, stdout, stderr], [0, `niche ${packageJson.version}\n`, '']);
});
