import assert from 'node:assert/strict';
import { chmod, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import type { Finding } from '../../core/cache/verify/finding.ts';
import { createMachine, nameOf, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import type { Machine } from '../support/lab/e2e-machine.ts';
import { everyNix } from '../support/lab/nix-lab.ts';
import type { NixVersion } from '../support/lab/nix-lab.ts';

/** What a version of Nix can content-address. */
interface Abilities {
  readonly features: readonly string[];
  readonly algorithms: readonly string[];
  /** Algorithms of Git trees: of added files, and of outputs. */
  readonly git: { readonly added: readonly string[]; readonly built: readonly string[] };
  readonly hasTextOutputs: boolean;
  /** Whether `nix store add` takes a method and an algorithm. */
  readonly hasAddModes: boolean;
  /** Whether all kinds of output may refer to themselves, rather than `fixed:r:sha256` alone. */
  readonly allowsAnySelfReference: boolean;
  /** What `niche verify` notes about self-referring paths of the kind `fixed:r:sha256`. */
  readonly selfReferences: RegExp;
}

function abilitiesOf({ version }: NixVersion): Abilities {
  const minor = Number(version.split('.')[1]);
  const hasTextOutputs = minor >= 20;
  const hasAddModes = minor >= 20;
  const common = ['md5', 'sha1', 'sha256', 'sha512'];
  return {
    features: [
      ...['nix-command', 'flakes', 'ca-derivations'],
      ...(minor >= 20 ? ['git-hashing', 'dynamic-derivations'] : []),
      ...(minor >= 31 ? ['blake3-hashes'] : []),
    ],
    algorithms: minor >= 31 ? [...common, 'blake3'] : common,
    git: {
      added: minor >= 31 ? ['sha1', 'sha256'] : minor >= 20 ? ['sha1'] : [],
      built: minor >= 31 ? ['sha1', 'sha256'] : [],
    },
    hasTextOutputs,
    hasAddModes,
    allowsAnySelfReference: minor < 16,
    selfReferences:
      minor < 17 || minor >= 35
        ? /with their positions; Nix before 2\.17, and from 2\.35,/
        : /without their positions; only Nix 2\.17 to 2\.34/,
  };
}

/** Returns a derivation whose output is content-addressed, or input-addressed without a kind. */
function output(
  name: string,
  kind: readonly [mode: string, algorithm: string] | null,
  script: string,
): string {
  const address =
    kind === null
      ? ''
      : `__contentAddressed = true; outputHashMode = "${kind[0]}"; outputHashAlgo = "${kind[1]}";`;
  return `"${name}" = derivation {
    name = "${name}"; system = builtins.currentSystem; builder = "/bin/sh";
    PATH = "/usr/bin:/bin"; args = [ "-euc" ''${script}'' ]; ${address} };`;
}

const treeScript = `mkdir -p $out/a; echo x > $out/a/x; echo y > $out/a-b; chmod +x $out/a-b
  ln -s a $out/link`;
const selfScript = `echo "I am $out, really $out" > $out`;

/** Returns outputs of every kind, with and without a reference to themselves. */
function outputsOf(abilities: Abilities): ReadonlyMap<string, string> {
  const outputs = new Map<string, string>();
  const add = (name: string, mode: string, algorithm: string, script: string): void => {
    outputs.set(name, output(name, [mode, algorithm], script));
  };
  for (const algorithm of abilities.algorithms) {
    add(`flat-${algorithm}`, 'flat', algorithm, 'echo hello > $out');
    add(`nar-${algorithm}`, 'recursive', algorithm, treeScript);
    if (abilities.allowsAnySelfReference || algorithm === 'sha256') {
      add(`self-nar-${algorithm}`, 'recursive', algorithm, selfScript);
    }
    if (abilities.allowsAnySelfReference) {
      add(`self-flat-${algorithm}`, 'flat', algorithm, selfScript);
    }
  }
  for (const algorithm of abilities.git.built) {
    add(`git-${algorithm}`, 'git', algorithm, treeScript);
  }
  if (abilities.hasTextOutputs) add('text', 'text', 'sha256', 'echo hello > $out');
  const all = [...outputs.keys()].map((name) => `\${parts."${name}"}`).join(' ');
  add('top', 'recursive', 'sha256', `echo "$out needs ${all}" > $out`);
  return outputs;
}

/** Adds files by each method and algorithm. Returns the paths. */
async function addFiles(machine: Machine, { algorithms, git }: Abilities): Promise<string[]> {
  const at = (name: string): string => join(machine.work, name);
  await writeFile(at('plain'), 'plain\n');
  await writeFile(at('program'), '#!/bin/sh\n');
  await chmod(at('program'), 0o755);
  await symlink('target', at('link'));
  const paths: string[] = [];
  const add = async (mode: string, algorithm: string, file: string): Promise<void> => {
    const name = ['--name', `added-${mode}-${algorithm}-${file}`];
    const args = ['store', 'add', '--mode', mode, '--hash-algo', algorithm, ...name, at(file)];
    paths.push(await machine.output('nix', args));
  };
  // Nix keeps that a file is executable, although these hashes do not cover it.
  for (const algorithm of algorithms) await add('flat', algorithm, 'program');
  for (const algorithm of algorithms) await add('nar', algorithm, 'link');
  await add('text', 'sha256', 'program');
  for (const algorithm of git.added) {
    for (const file of ['plain', 'program', 'link']) await add('git', algorithm, file);
  }
  return paths;
}

for (const nix of everyNix()) {
  test(`every kind of content address is published and installed, nix ${nix.version}`, async (t) => {
    const abilities = abilitiesOf(nix);
    const experimentalFeatures = abilities.features;
    const machine = await createMachine(t, { nix, experimentalFeatures });
    const cache = await machine.makeCache();
    const outputs = outputsOf(abilities);
    const inputAddressed = [
      output('lib', null, 'mkdir $out; echo $out > $out/self'),
      output('app', null, 'mkdir $out; echo $out \${parts.lib} > $out/self'),
    ];
    await writeFile(
      join(machine.work, 'default.nix'),
      `let parts = { ${[...outputs.values(), ...inputAddressed].join('\n')} }; in parts`,
    );

    const build = ['--', '-f', 'default.nix', '--no-link'];
    await machine.nicheDoes(['build', '-u', cache.url, ...build, ...outputs.keys()]);
    const app = await machine.output('nix-build', ['--no-out-link', '-A', 'app']);
    const rewritten = await machine.output('nix', [
      'store',
      'make-content-addressed',
      '--json',
      app,
    ]);
    const { rewrites } = JSON.parse(rewritten) as { rewrites: Record<string, string> };
    const added = abilities.hasAddModes ? await addFiles(machine, abilities) : [];
    await machine.nicheDoes(['push', '-u', cache.url, ...Object.values(rewrites), ...added]);

    const expected = [...outputs.keys(), 'lib', 'app', ...added.map(nameOf)];
    assert.deepEqual(await cache.names(), expected.sort());
    const verified = await machine.nicheDoes(['verify', '-u', cache.url, '--json']);
    const findings = verified.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Finding);
    const notes = findings.filter(({ kind }) => kind === 'note');
    const selfReferring = ['self-nar-sha256', 'top', 'lib', 'app'];
    for (const { subject, message } of notes) {
      const isUnmarked = !selfReferring.includes(nameOf(subject));
      assert.match(message, isUnmarked ? /only Nix before 2\.16/ : abilities.selfReferences);
    }
    const noted = notes.map(({ subject }) => nameOf(subject)).sort();
    const selfNames = expected.filter((name) => name.startsWith('self-'));
    assert.deepEqual(noted, [...new Set([...selfNames, ...selfReferring])].sort());

    if (skipUnlessChroot(t, machine)) return;
    const trustedPublicKeys = [cache.publicKey];
    const reader = await createMachine(t, { nix, experimentalFeatures, trustedPublicKeys });
    const paths = await cache.paths();
    await reader.output('nix', ['copy', '--from', cache.url, ...paths]);
    await reader.output('nix', ['store', 'verify', '--no-trust', ...paths]);
  });
}
