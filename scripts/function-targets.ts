import type { BuildOptions } from 'esbuild';

import rootPackage from '../package.json' with { type: 'json' };

/** The functions of one cloud: their bundles, and the folder that is deployed. */
export interface FunctionTarget {
  readonly cloud: 'aws' | 'azure' | 'google';
  /** Entry points, `functions/<cloud>/<entry>.ts`. Each becomes a bundle. */
  readonly entries: readonly string[];
  /** The folder of the bundles, in the folder of the deployment that a team commits. */
  readonly folder: string;
  readonly format: 'esm' | 'cjs';
  readonly build: BuildOptions;
  /**
   * Modules that are imported but never used. `external` does not work for them: esbuild would hoist
   * their static imports to the head of an ES module, where Node fails to resolve them.
   */
  readonly absent?: RegExp;
  /** Further files of the folder, by name. A path is copied, an object is written as JSON. */
  readonly files: Readonly<Record<string, string | object>>;
}

/** A function never loads the SDKs of other clouds. */
const aws = ['@aws-sdk/*'];
const azure = ['@azure/*'];
const google = ['@google-cloud/*', 'google-auth-library'];

const { devDependencies } = rootPackage;

export const functionTargets: readonly FunctionTarget[] = [
  {
    cloud: 'aws',
    entries: ['publish', 'sweep'],
    folder: 'infra/aws/functions',
    format: 'esm',
    build: {
      alias: {
        // Lambda's environment holds the credentials. The SDK's other sources would be a third of
        // the bundle.
        '@aws-sdk/credential-provider-node': './functions/aws/environment-credentials.ts',
      },
    },
    absent:
      /^(?:@azure\/|@google-cloud\/|google-auth-library$|@aws-sdk\/credential-providers$|age-encryption$)/,
    files: {},
  },
  {
    cloud: 'azure',
    entries: ['main'],
    folder: 'infra/azure/function',
    // The runtime provides its own module to `require`.
    format: 'cjs',
    build: {
      // As on AWS, one source of credentials is enough.
      alias: { '@azure/identity': './functions/azure/managed-identity.ts' },
      // The SDK loads apache-arrow only for listings in Arrow's format.
      external: [...aws, ...google, '@azure/functions-core', 'apache-arrow', 'age-encryption'],
    },
    // The SDK's WebAssembly for CRC-64 checksums, which niche does not use.
    absent: /^\.\/crc64\.js$/,
    files: {
      'host.json': 'functions/azure/host.json',
      'package.json': { name: 'niche-functions', private: true, main: 'main.cjs' },
    },
  },
  {
    cloud: 'google',
    entries: ['main'],
    folder: 'infra/google/function',
    format: 'cjs',
    build: {
      // The framework's server loads the bundle. Both must share one instance of its module.
      external: [...aws, ...azure, '@google-cloud/functions-framework', 'age-encryption'],
    },
    files: {
      'package.json': {
        name: 'niche-functions',
        private: true,
        main: 'main.cjs',
        dependencies: {
          '@google-cloud/functions-framework': devDependencies['@google-cloud/functions-framework'],
        },
      },
    },
  },
];
