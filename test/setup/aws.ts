import { setupPythonTool, type PythonTool } from './python.ts';
import type { ToolReport } from './tools.ts';

/** Stands for AWS in tests: CloudFormation, S3, SQS, Lambda, KMS, IAM. */
export const ministack: PythonTool = {
  name: 'ministack',
  version: '1.5.33',
  // Its KMS makes and uses keys with it.
  extras: ['cryptography==50.0.2'],
};

/** Checks CloudFormation templates. */
export const cfnLint: PythonTool = { name: 'cfn-lint', version: '1.58.0' };

export async function setupAws(): Promise<ToolReport[]> {
  return [await setupPythonTool(ministack), await setupPythonTool(cfnLint)];
}
