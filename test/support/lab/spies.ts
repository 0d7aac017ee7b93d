import { accessSync, constants, readFileSync, readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Wrappers that record their arguments and environment, and then run the real programs. */
export interface Spies {
  /** Variables with which niche runs the wrappers. */
  readonly env: { readonly PATH: string; readonly EDITOR: string };
  /** The arguments and environment of each run, by program, and the arguments of niche. */
  seen(): [program: string, text: string][];
}

const programs = ['nix', 'nix-store', 'nix-instantiate', 'gpg'];

/**
 * Creates a wrapper for every program that niche runs, and an editor that changes nothing.
 *
 * @param folder folder to create for the wrappers
 * @param path folders of the real programs, as in `PATH`
 */
export async function placeSpies(folder: string, path: string): Promise<Spies> {
  const notes = join(folder, 'notes');
  await mkdir(notes, { recursive: true });
  const write = (name: string, then: string): Promise<void> =>
    writeFile(join(folder, name), spy(join(notes, name), then), { mode: 0o755 });
  for (const name of programs) {
    const real = findProgram(name, path);
    // Nix has one binary, which behaves by the name that it is run as.
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

/** Each process has its own file, so that no process overwrites the record of another. */
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
      // Not in this folder.
    }
  }
  return null;
}
