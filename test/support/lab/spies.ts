import { accessSync, constants, readFileSync, readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Programs that note what they are given, and are then the real ones. */
export interface Spies {
  /** With these variables niche runs them. */
  readonly env: { readonly PATH: string; readonly EDITOR: string };
  /** By program: the arguments and environment of each time that it ran, and niche's arguments. */
  seen(): [program: string, text: string][];
}

const programs = ['nix', 'nix-store', 'nix-instantiate', 'gpg'];

/**
 * Puts a spy before every program that niche runs, and one in the place of an editor, which changes
 * nothing.
 *
 * @param folder made for them
 * @param path where the real ones are, as in `PATH`
 */
export async function placeSpies(folder: string, path: string): Promise<Spies> {
  const notes = join(folder, 'notes');
  await mkdir(notes, { recursive: true });
  const write = (name: string, then: string): Promise<void> =>
    writeFile(join(folder, name), spy(join(notes, name), then), { mode: 0o755 });
  for (const name of programs) {
    const real = findProgram(name, path);
    // Nix tells its programs apart by the name that they are run by.
    if (real !== null) await write(name, `exec "${real}" "$@"`);
  }
  await write('editor', 'exit 0');
  return {
    env: { PATH: `${folder}:${path}`, EDITOR: join(folder, 'editor') },
    seen: () =>
      readdirSync(notes).map((file) => [
        file.slice(0, file.indexOf('.')),
        readFileSync(join(notes, file), 'latin1'),
      ]),
  };
}

/** Each process has a file of its own, so that no two write over each other. */
function spy(note: string, then: string): string {
  const given = ['$$/environ', '$$/cmdline', '$PPID/cmdline'];
  const lines = given.map((file) => `tr '\\0' '\\n' < /proc/${file} >> "${note}.$$"`);
  return ['#!/bin/sh', ...lines, then, ''].join('\n');
}

function findProgram(name: string, path: string): string | null {
  for (const folder of path.split(':')) {
    const file = join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // In another one.
    }
  }
  return null;
}
