import { setupGoTool, type GoTool } from './go.ts';
import { setupPythonTool, type PythonTool } from './python.ts';
import type { ToolReport } from './tools.ts';

/** Reads Bicep: Azure's own compiler is in no registry of packages that tests are made from. */
export const pycep: PythonTool = { name: 'pycep-parser', version: '0.7.1' };

/** HashiCorp's own formatter of its language. */
export const hclfmt: GoTool = {
  name: 'hclfmt',
  packages: ['github.com/hashicorp/hcl/v2/cmd/hclfmt'],
  version: 'v2.25.0',
};

export function setupInfra(): Promise<ToolReport[]> {
  return Promise.all([setupPythonTool(pycep), setupGoTool(hclfmt)]);
}
