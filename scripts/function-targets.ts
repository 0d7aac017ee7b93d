import type { BuildOptions } from 'esbuild';

import rootPackage from '../package.json' with { type: 'json' };

/** One cloud's functions: what is bundled, and what lies beside it where it is deployed from. */
export interface FunctionTarget {
  readonly cloud: 'aws' | 'azure' | 'google';
  /** Each is one bundle: `functions/<cloud>/<entry>.ts`. */
  readonly entries: readonly string[];
  /** Beside what names them in the deployment: a team commits the folder whole. */
  readonly folder: string;
  readonly format: 'esm' | 'cjs';
  readonly build: BuildOptions;
  /**
   * What is imported and never used. `external` would not do for it: a static import in a module
   * that is itself imported on first use comes to stand at an ES module's head.
   */
  readonly absent?: RegExp;
  /** More files of the folder, by their names; a path is copied, an object is written as JSON. */
  readonly beside: Readonly<Record<string, string | object>>;
}

/** What other clouds' drivers load is never opened in this one. */
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
        // In Lambda, credentials are in the environment: single sign-on, profiles and instance
        // metadata would be a third of the bundle.
        '@aws-sdk/credential-provider-node': './functions/aws/environment-credentials.ts',
      },
    },
    absent:
      /^(?:@azure\/|@google-cloud\/|google-auth-library$|@aws-sdk\/credential-providers$|age-encryption$)/,
    beside: {},
  },
  {
    cloud: 'azure',
    entries: ['main'],
    folder: 'infra/azure/function',
    // The runtime's worker gives its own module to whoever asks by `require`.
    format: 'cjs',
    build: {
      // As on AWS: of the ways to come by credentials there is one here.
      alias: { '@azure/identity': './functions/azure/managed-identity.ts' },
      // Listings in Arrow's format are never asked for, and loaded only then.
      external: [...aws, ...google, '@azure/functions-core', 'apache-arrow', 'age-encryption'],
    },
    // WebAssembly for checksums that the SDK makes where it is asked to, which it never is.
    absent: /^\.\/crc64\.js$/,
    beside: {
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
      // The framework is the server that loads the bundle: what both import must be one module.
      external: [...aws, ...azure, '@google-cloud/functions-framework', 'age-encryption'],
    },
    beside: {
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
