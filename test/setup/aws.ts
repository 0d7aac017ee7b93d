import { setupPythonTool, type PythonTool } from './python.ts';
import { finishSetup } from './tools.ts';

/** Stands for AWS in tests: CloudFormation, S3, SQS, Lambda, KMS, IAM. */
export const ministack: PythonTool = {
  name: 'ministack',
  version: '1.5.33',
  // Its KMS makes and uses keys with it.
  extras: ['cryptography==50.0.2'],
};

/** Checks CloudFormation templates. */
export const cfnLint: PythonTool = { name: 'cfn-lint', version: '1.58.0' };

if (import.meta.main) {
  finishSetup([await setupPythonTool(ministack), await setupPythonTool(cfnLint)]);
}
