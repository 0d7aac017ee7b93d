import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

/**
 * Imports run one way: nix ← storage, kms ← secrets, signing ← cache ← functions, cli. Each entry
 * lists the folders that the key must not import from.
 */
const forbidden = {
  'core/nix': ['storage', 'kms', 'secrets', 'signing', 'cache', 'functions', 'cli'],
  'core/storage': ['kms', 'secrets', 'signing', 'cache', 'functions', 'cli'],
  'core/kms': ['nix', 'storage', 'secrets', 'signing', 'cache', 'functions', 'cli'],
  'core/secrets': ['storage', 'signing', 'cache', 'functions', 'cli'],
  'core/signing': ['storage', 'secrets', 'cache', 'functions', 'cli'],
  'core/cache': ['functions', 'cli'],
  functions: ['cli'],
  cli: ['functions'],
};

const importDirection = Object.entries(forbidden).map(([folder, others]) => ({
  files: [`${folder}/**/*.ts`],
  // The worker is a function that runs on the user's machine.
  ignores: ['cli/worker/**'],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          {
            group: others.flatMap((other) => [`**/${other}/*`, `**/${other}/**`]),
            message: `${folder} must not import from there: imports run one way.`,
          },
          ...(folder === 'core/nix'
            ? [
                {
                  group: ['node:fs', 'node:fs/*', 'node:child_process', 'node:net', 'node:http*'],
                  message: 'core/nix holds formats only: it does no I/O.',
                },
              ]
            : []),
        ],
      },
    ],
  },
}));

export default defineConfig(
  { ignores: ['node_modules/', 'dist/', 'infra/aws/functions/', '.tools/', 'test/fixtures/'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: true },
      ],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/strict-boolean-expressions': [
        'error',
        { allowNullableBoolean: true, allowNullableObject: true, allowNullableString: true },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      eqeqeq: 'error',
      'no-console': 'error',
      'no-restricted-syntax': [
        'error',
        {
          selector: 'ImportDeclaration[source.value="zod"] > ImportSpecifier',
          message: 'import * as z: of the object `z` a bundle can leave nothing out.',
        },
      ],
    },
  },
  {
    files: ['core/**/*.ts'],
    rules: {
      'no-restricted-properties': [
        'error',
        { object: 'process', property: 'env', message: 'core never reads the environment.' },
        { object: 'process', property: 'exit', message: 'core never exits.' },
      ],
    },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      // node:test's own functions return promises that the runner awaits.
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', package: 'node:test', name: ['test', 'it', 'describe', 'suite'] },
          ],
        },
      ],
      '@typescript-eslint/no-non-null-assertion': 'off',
      'no-console': 'off',
    },
  },
  ...importDirection,
);
