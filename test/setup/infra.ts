import { setupPythonTool, type PythonTool } from './python.ts';
import { finishSetup } from './tools.ts';

/** Reads Bicep: Azure's own compiler is in no registry of packages that tests are made from. */
export const pycep: PythonTool = { name: 'pycep-parser', version: '0.7.1' };

if (import.meta.main) {
  finishSetup([await setupPythonTool(pycep)]);
}
