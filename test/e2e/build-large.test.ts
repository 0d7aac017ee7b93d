import assert from 'node:assert/strict';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { createMachine, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import { requireNix } from '../support/lab/nix-lab.ts';

const recorder = join(import.meta.dirname, '../support/lab/e2e-peak-memory.ts');
const mebibyte = 2 ** 20;

/** Returns a derivation `top` that refers to `count` small sources. */
function manySources(count: number): string {
  return `let
  numbers = builtins.genList toString ${count};
  sources = map (number: builtins.toFile "n\${number}" "source \${number}\\n") numbers;
in {
  top = derivation {
    name = "top";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-euc" "cp $sourcesPath $out" ];
    inherit sources;
    passAsFile = [ "sources" ];
  };
}
`;
}

describe('large builds', { concurrency: false }, () => {
  test('a path of more than 2 GiB, in bounded memory', async (t) => {
    const nix = requireNix(t);
    if (nix === null) return;
    const machine = await createMachine(t, { nix });
    const bytes = 2 ** 31;
    await machine.writeGraph([
      { name: 'huge', script: `truncate -s ${bytes} $out/big; echo the end >> $out/big` },
    ]);
    const cache = await machine.makeCache();
    const peakFile = join(machine.folder, 'peak');
    const env = {
      NODE_OPTIONS: `--import=${pathToFileURL(recorder).href}`,
      NICHE_TEST_PEAK_FILE: peakFile,
    };
    const args = ['-f', 'default.nix', 'huge', '--out-link', 'kept'];
    const built = await machine.nicheDoes(['build', '-u', cache.url, '--', ...args], { env });
    assert.match(built.stderr, /^niche: 1 path published \(2\.0 GiB\)/m);
    const peakBytes = Number(await readFile(peakFile, 'utf8'));
    t.diagnostic(`peak memory: ${Math.round(peakBytes / mebibyte)} MiB`);
    assert.ok(peakBytes > 0 && peakBytes < 350 * mebibyte, `${peakBytes} bytes`);

    if (skipUnlessChroot(t, machine)) return;
    const reader = await createMachine(t, { nix, trustedPublicKeys: [cache.publicKey] });
    const [huge] = await cache.paths();
    await reader.output('nix', ['copy', '--from', cache.url, huge!]);
    const { size } = await stat(join(reader.realPath(huge!), 'big'));
    assert.equal(size, bytes + 'the end\n'.length);
  });

  test('a path with 2,000 references, and all its references', async (t) => {
    const nix = requireNix(t);
    if (nix === null) return;
    const machine = await createMachine(t, { nix });
    await writeFile(join(machine.work, 'default.nix'), manySources(2_000));
    const cache = await machine.makeCache();
    const args = ['-f', 'default.nix', 'top', '--out-link', 'kept'];
    const built = await machine.nicheDoes(['build', '-u', cache.url, '--', ...args]);
    assert.match(built.stderr, /^niche: 2001 paths published /m);
    assert.equal((await cache.paths()).length, 2_001);

    if (skipUnlessChroot(t, machine)) return;
    const reader = await createMachine(t, { nix, trustedPublicKeys: [cache.publicKey] });
    const top = await machine.output('readlink', ['kept']);
    await reader.output('nix', ['copy', '--from', cache.url, top]);
    const references = await reader.output('nix-store', ['-q', '--references', top]);
    assert.equal(references.split('\n').length, 2_000);
    await reader.output('nix-store', ['--verify', '--check-contents']);
  });
});
