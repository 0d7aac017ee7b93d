import { existsSync } from 'node:fs';
import { azuriteScript } from './azurite.ts';
import { pythonProgram } from './python.ts';
import { versitygwProgram } from './versitygw.ts';

/** Programs that tests run, by the name that their messages use. */
const programs = {
  azurite: () => azuriteScript('azurite.js'),
  'azurite-blob': () => azuriteScript('blob/main.js'),
  'cfn-lint': () => pythonProgram('cfn-lint'),
  'fake-gcs-server': () => pythonProgram('fake-gcs-server'),
  ministack: () => pythonProgram('ministack'),
  'pycep-parser': () => pythonProgram('pycep-parser'),
  seaweedfs: () => pythonProgram('seaweedfs'),
  sops: () => pythonProgram('sops'),
  versitygw: versitygwProgram,
} as const;

export type Program = keyof typeof programs;

/**
 * Returns the path of a program, or null if `npm run setup:test` has not installed it. The path is a
 * script for Node where the program is Azurite, and the Python that can import `pycep` for
 * `pycep-parser`.
 */
export function findProgram(name: Program): string | null {
  const path = programs[name]();
  return existsSync(path) ? path : null;
}
