import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { formatPublicKey, generateSecretKey } from '../../core/nix/keys.ts';
import { createNixLab, type NixLab, type NixVersion } from '../support/lab/nix-lab.ts';
import { execute } from '../support/lab/execute.ts';
import { run, say, serve, step } from './show.ts';

const defaultNix = `# Four packages; \`docs\` does not build.
let
  package = name: deps: script: derivation {
    inherit name deps;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-euc" script ];
    PATH = "/usr/bin:/bin:/run/current-system/sw/bin";
  };
in rec {
  hello = package "hello" [ ] "echo hello > $out";
  world = package "world" [ ] "echo world > $out";
  app = package "app" [ hello world ] "echo $deps > $out";
  docs = package "docs" [ hello ] "sleep 2; echo 'chapter 3 is missing' >&2; exit 1";
}
`;

/** Runs the demo on two machines, each with its own Nix store in a temporary folder. */
export async function demoWithNix(
  nix: NixVersion,
  folder: string,
  signal: AbortSignal,
): Promise<void> {
  const cache = pathToFileURL(join(folder, 'cache')).href;
  const closing: (() => Promise<void>)[] = [];
  try {
    const builder = await createNixLab({ nix });
    closing.push(() => builder.close());
    const at = { env: builder.env, cwd: builder.work };
    await writeFile(join(builder.work, 'default.nix'), defaultNix);

    const publicKey = await step(
      'Make a cache: a directory (or a bucket) with a name and a signing key.',
      async () => {
        const args = ['init', cache, '--name', 'demo', '--no-upstream'];
        const printed = await run({ command: 'niche', args, ...at }, signal);
        return /^public key: (.*)$/m.exec(printed)?.[1] ?? '';
      },
    );

    await step(
      'Build. niche build runs nix build and uploads each path as soon as it is built. `docs` fails, so the exit status is 1.',
      () => {
        const args = ['build', '-u', cache, '--', '-f', 'default.nix', 'app', 'docs'];
        const keepGoing = ['--keep-going', '--no-link'];
        return run({ command: 'niche', args: [...args, ...keepGoing], ...at, status: 1 }, signal);
      },
    );

    await step('The paths that were built are in the cache, checked and signed.', () =>
      run({ command: 'niche', args: ['verify', '-u', cache], ...at }, signal),
    );

    const server = await step(
      'Serve it. The cache is plain files, so any web server works. niche includes one.',
      () => serve(cache, at, signal),
    );
    closing.push(() => server.stop());

    const app = await builder.output('nix-instantiate', [
      ...['--eval', '--json', '-A', 'app.outPath', 'default.nix'],
    ]);
    const storePath = JSON.parse(app) as string;
    const realise = (key: string): string[] => [
      ...['--realise', storePath, '--option', 'substituters', server.url],
      ...['--option', 'trusted-public-keys', key],
    ];

    const reader = await emptyMachine(builder);
    if (reader !== builder) closing.push(() => reader.close());
    const onReader = { command: 'nix-store', env: reader.env, cwd: reader.work };
    const otherKey = formatPublicKey(generateSecretKey('other-1').publicKey);
    await step('Read from a second machine that trusts another key. Nix refuses every path.', () =>
      run({ ...onReader, args: realise(otherKey), status: 1 }, signal),
    );
    await step(
      'Trust the cache’s key. Nix installs `app` with its closure and builds nothing.',
      async () => {
        await run({ ...onReader, args: realise(publicKey) }, signal);
        const references = await readFile(reader.realPath(storePath), 'utf8');
        say(`${storePath} contains: ${references.trim()}`);
      },
    );
    await step('Check the contents. Nix finds every byte as signed.', () =>
      run({ ...onReader, args: ['--verify', '--check-contents'] }, signal),
    );
  } finally {
    for (const close of closing.reverse()) await close();
  }
}

/**
 * Returns a machine with an empty store, in the same store directory as `machine`. If that directory
 * belongs to the lab of `machine`, empties `machine` itself.
 */
async function emptyMachine(machine: NixLab): Promise<NixLab> {
  if (machine.kind === 'chroot') return createNixLab({ nix: machine.nix, kind: 'chroot' });
  const { env } = machine;
  for (const name of ['store', 'var', 'home/.cache']) {
    const folder = join(machine.folder, name);
    await execute('chmod', ['-R', 'u+rwX', folder], { env });
    await rm(folder, { recursive: true, force: true });
  }
  return machine;
}
