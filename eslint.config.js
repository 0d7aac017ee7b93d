import { dirname, join, relative } from 'node:path';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

/**
 * The folders whose files each folder may import, besides its own. A folder lists only folders that
 * stand above it in this table, so imports run one way and never in a circle.
 */
const formats = ['core', 'core/util', 'core/nix'];
const storage = [...formats, 'core/storage', 'core/storage/open'];
const cache = [...storage, 'core/secrets', 'core/signing', 'core/cache'];
const functions = [
  ...[...cache, 'core/kms', 'core/cache/keys', 'core/cache/publish', 'core/cache/withdraw'],
];
const cli = [...cache, 'core/storage/file', 'core/cache/keys', 'cli/process'];
const mayImport = {
  core: [],
  'core/util': ['core'],
  'core/nix': ['core', 'core/util'],
  'core/kms': ['core', 'core/util'],
  'core/secrets': ['core', 'core/util', 'core/kms'],
  'core/signing': [...formats, 'core/kms'],
  'core/storage': ['core', 'core/util'],
  'core/storage/http': ['core', 'core/util', 'core/storage'],
  'core/storage/file': ['core', 'core/util', 'core/storage'],
  'core/storage/s3': ['core', 'core/util', 'core/storage', 'core/storage/http'],
  'core/storage/azure': ['core', 'core/util', 'core/storage', 'core/storage/http'],
  'core/storage/google': ['core', 'core/util', 'core/storage', 'core/storage/http'],
  'core/storage/open': [
    ...['core', 'core/storage', 'core/storage/file'],
    ...['core/storage/s3', 'core/storage/azure', 'core/storage/google'],
  ],
  'core/cache': [...storage, 'core/storage/http', 'core/secrets', 'core/signing'],
  'core/cache/withdraw': cache,
  'core/cache/zstd': ['core', 'core/util'],
  'core/cache/nar': [...cache, 'core/cache/zstd'],
  'core/cache/receipts': cache,
  'core/cache/local': cache,
  'core/cache/stage': [...cache, 'core/cache/local'],
  'core/cache/publish': [
    ...[...cache, 'core/cache/withdraw', 'core/cache/zstd', 'core/cache/nar'],
    ...['core/cache/receipts'],
  ],
  'core/cache/adopt': [
    ...[...cache, 'core/cache/withdraw', 'core/cache/zstd', 'core/cache/nar'],
    ...['core/cache/receipts', 'core/cache/publish'],
  ],
  'core/cache/status': [...cache, 'core/cache/receipts', 'core/cache/publish'],
  'core/cache/verify': [...cache, 'core/cache/zstd', 'core/cache/nar'],
  'core/cache/keys': [...cache, 'core/cache/withdraw'],
  'functions/events': cache,
  'functions/shared': [...functions, 'functions/events'],
  'functions/worker': [...functions, 'functions/events'],
  'functions/aws': [...functions, 'functions/events', 'functions/shared', 'core/storage/s3'],
  'functions/azure': [...functions, 'functions/events', 'functions/shared', 'core/storage/azure'],
  'functions/google': [...functions, 'functions/events', 'functions/shared', 'core/storage/google'],
  'cli/process': ['core', 'core/util'],
  'cli/ui': [...formats, 'cli/process'],
  'cli/nix': [...formats, 'cli/process'],
  'cli/watch': [...formats, 'cli/process', 'cli/nix'],
  'cli/secrets': [...cli, 'core/kms'],
  'cli/cache': [...cli, 'cli/nix', 'cli/secrets'],
  'cli/adopt': [...cli, 'core/cache/adopt', 'cli/ui'],
  'cli/block': [
    ...[...cli, 'core/cache/withdraw', 'core/cache/publish'],
    ...['cli/ui', 'cli/cache'],
  ],
  'cli/serve': cli,
  'cli/use': [...cli, 'cli/nix', 'cli/cache'],
  'cli/init': [
    ...[...cli, 'core/storage/http', 'core/kms', 'core/cache/adopt'],
    ...['cli/ui', 'cli/secrets', 'cli/adopt', 'cli/cache'],
  ],
  'cli/config': [...cli, 'cli/secrets', 'cli/cache', 'cli/init'],
  'cli/upload': [
    ...[
      ...cli,
      'core/cache/local',
      'core/cache/receipts',
      'core/cache/stage',
      'core/cache/publish',
    ],
    ...['cli/ui', 'cli/nix', 'cli/secrets', 'cli/cache'],
  ],
  'cli/build': [...cli, 'cli/ui', 'cli/nix', 'cli/watch', 'cli/cache', 'cli/upload'],
  'cli/worker': [
    ...[...cli, 'core/storage/s3', 'core/cache/publish', 'core/cache/withdraw'],
    ...['functions/events', 'functions/shared', 'functions/worker'],
    ...['cli/ui', 'cli/cache', 'cli/upload'],
  ],
  'cli/commands': [
    ...[...cli, 'core/storage/http'],
    ...['core/cache/receipts', 'core/cache/publish', 'core/cache/status', 'core/cache/verify'],
    ...['core/cache/withdraw', 'core/cache/adopt'],
    ...[
      'cli/ui',
      'cli/adopt',
      'cli/nix',
      'cli/secrets',
      'cli/cache',
      'cli/block',
      'cli/serve',
      'cli/use',
      'cli/init',
    ],
    ...['cli/config', 'cli/upload', 'cli/build', 'cli/worker'],
  ],
  cli: [...cli, 'cli/ui', 'cli/secrets', 'cli/commands'],
};

const entries = Object.entries(mayImport);
for (const [at, [folder, others]] of entries.entries()) {
  const above = entries.slice(0, at).map(([name]) => name);
  const wrong = others.find((other) => !above.includes(other));
  if (wrong) throw new Error(`mayImport: ${folder} lists ${wrong}, which does not stand above it`);
}

/** Enforces {@link mayImport}. */
const importDirection = {
  meta: {
    type: 'problem',
    schema: [],
    messages: {
      upward: '{{from}} must not import {{to}}: see mayImport in eslint.config.js.',
      unknown: 'the folder {{folder}} is missing in mayImport in eslint.config.js.',
    },
  },
  create(context) {
    const file = relative(import.meta.dirname, context.filename);
    const from = dirname(file);
    const allowed = mayImport[from];
    const check = (node) => {
      const { value } = node.source ?? {};
      if (typeof value !== 'string' || !value.startsWith('.')) return;
      const to = dirname(join(from, value));
      // Every folder may import package.json.
      if (to === '.') return;
      const unknown = [from, to].find((folder) => !(folder in mayImport));
      if (unknown) context.report({ node, messageId: 'unknown', data: { folder: unknown } });
      else if (to !== from && !allowed.includes(to)) {
        context.report({ node, messageId: 'upward', data: { from, to } });
      }
    };
    return {
      ImportDeclaration: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
      ImportExpression: check,
    };
  },
};

/** Documents come from elsewhere, and the code that checks them recurses. */
const boundedJson = {
  object: 'JSON',
  property: 'parse',
  message: 'use parseJson of core/util/json.ts, which bounds the nesting.',
};

const zodObject = {
  selector: 'ImportDeclaration[source.value="zod"] > ImportSpecifier',
  message: 'import * as z: of the object `z` a bundle can leave nothing out.',
};

const recursiveMkdir = {
  selector: 'CallExpression[callee.name=/^mkdir(Sync)?$/] Property[key.name="recursive"]',
  message: 'makeFolders of core/util: Node’s recursive mkdir never returns in /proc.',
};

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
      'no-restricted-syntax': ['error', zodObject],
    },
  },
  {
    files: ['core/**/*.ts'],
    rules: {
      'no-restricted-properties': [
        'error',
        { object: 'process', property: 'env', message: 'core never reads the environment.' },
        { object: 'process', property: 'exit', message: 'core never exits.' },
        boundedJson,
      ],
    },
  },
  {
    files: ['functions/**/*.ts'],
    rules: { 'no-restricted-properties': ['error', boundedJson] },
  },
  {
    // These bound the nesting themselves.
    files: ['core/util/json.ts', 'core/secrets/json-tree.ts'],
    rules: { 'no-restricted-properties': 'off' },
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
  {
    files: ['core/**/*.ts', 'functions/**/*.ts', 'cli/**/*.ts'],
    plugins: { niche: { rules: { 'import-direction': importDirection } } },
    rules: {
      'no-restricted-syntax': ['error', zodObject, recursiveMkdir],
      'niche/import-direction': 'error',
    },
  },
  {
    files: ['core/nix/**/*.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              group: ['node:fs', 'node:fs/*', 'node:child_process', 'node:net', 'node:http*'],
              message: 'core/nix holds formats only: it does no I/O.',
            },
          ],
        },
      ],
    },
  },
);
