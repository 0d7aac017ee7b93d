import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { findProgram } from '../setup/programs.ts';
import { whyNo } from '../support/assert/required.ts';

const exec = promisify(execFile);
const folder = join(import.meta.dirname, '../../infra/azure');

/** A file as pycep parses it: names and texts are both strings. */
interface BicepFile {
  readonly parameters?: Readonly<Record<string, Parameter>>;
  readonly resources?: Readonly<Record<string, Resource>>;
  readonly modules?: Readonly<
    Record<string, { readonly detail: { readonly path?: string }; readonly config: ModuleConfig }>
  >;
  readonly outputs?: Readonly<Record<string, unknown>>;
}
interface Parameter {
  readonly decorators: readonly { readonly type: string }[];
  readonly default: unknown;
}
interface Resource {
  readonly type: string;
  readonly api_version: string;
  readonly existing: boolean;
  readonly config: unknown;
}
interface ModuleConfig {
  readonly params: Readonly<Record<string, unknown>>;
}

/** Resource types with their API version, and the page of Azure's reference. */
const documentedTypes: Readonly<Record<string, string>> = {
  'Microsoft.Authorization/roleAssignments@2022-04-01': 'microsoft.authorization/roleassignments',
  'Microsoft.Authorization/roleDefinitions@2022-04-01': 'microsoft.authorization/roledefinitions',
  'Microsoft.EventGrid/systemTopics/eventSubscriptions@2022-06-15':
    'microsoft.eventgrid/systemtopics/eventsubscriptions',
  'Microsoft.EventGrid/systemTopics@2022-06-15': 'microsoft.eventgrid/systemtopics',
  'Microsoft.Insights/components@2020-02-02': 'microsoft.insights/components',
  'Microsoft.Insights/diagnosticSettings@2021-05-01-preview':
    'microsoft.insights/diagnosticsettings',
  'Microsoft.Insights/metricAlerts@2018-03-01': 'microsoft.insights/metricalerts',
  'Microsoft.Insights/scheduledQueryRules@2023-12-01': 'microsoft.insights/scheduledqueryrules',
  'Microsoft.KeyVault/vaults/keys@2023-07-01': 'microsoft.keyvault/vaults/keys',
  'Microsoft.KeyVault/vaults@2023-07-01': 'microsoft.keyvault/vaults',
  'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2023-01-31':
    'microsoft.managedidentity/userassignedidentities/federatedidentitycredentials',
  'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31':
    'microsoft.managedidentity/userassignedidentities',
  'Microsoft.OperationalInsights/workspaces@2023-09-01': 'microsoft.operationalinsights/workspaces',
  'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01':
    'microsoft.storage/storageaccounts/blobservices/containers',
  'Microsoft.Storage/storageAccounts/blobServices@2024-01-01':
    'microsoft.storage/storageaccounts/blobservices',
  'Microsoft.Storage/storageAccounts/managementPolicies@2024-01-01':
    'microsoft.storage/storageaccounts/managementpolicies',
  'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01':
    'microsoft.storage/storageaccounts/queueservices/queues',
  'Microsoft.Storage/storageAccounts/queueServices@2024-01-01':
    'microsoft.storage/storageaccounts/queueservices',
  'Microsoft.Storage/storageAccounts@2024-01-01': 'microsoft.storage/storageaccounts',
  'Microsoft.Web/serverfarms@2024-04-01': 'microsoft.web/serverfarms',
  'Microsoft.Web/sites/config@2024-04-01': 'microsoft.web/sites/config',
  'Microsoft.Web/sites@2024-04-01': 'microsoft.web/sites',
};

/** Built-in roles by their ID in "Azure built-in roles" (role-based-access-control/built-in-roles: Storage, Security, Monitor). */
const documentedRoles: Readonly<Record<string, string>> = {
  'ba92f5b4-2d11-453d-a403-e96b0029c9fe': 'Storage Blob Data Contributor',
  'b7e6dc6d-f1e8-4753-8033-0f276bb0955b': 'Storage Blob Data Owner',
  '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1': 'Storage Blob Data Reader',
  '974c5e8b-45b9-4653-ba55-5f855dd0fb88': 'Storage Queue Data Contributor',
  'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a': 'Storage Queue Data Message Sender',
  '12338af0-0e69-4776-bea7-57ae8d297424': 'Key Vault Crypto User',
  '73c42c96-874c-492b-b04d-ab87d138a893': 'Log Analytics Reader',
  '3913510d-42f4-4e42-8a64-420c390055eb': 'Monitoring Metrics Publisher',
};

/** Other names of Azure's, and the page of its documentation that lists them. */
const documentedNames: Readonly<Record<string, string>> = {
  'Microsoft.Storage.BlobCreated': 'event-grid/event-schema-blob-storage',
  'Microsoft.Storage.StorageAccounts': 'event-grid/system-topics',
  CloudEventSchemaV1_0: 'event-grid/cloud-event-schema',
  DeadLetteredCount: 'azure-monitor/reference/supported-metrics (microsoft.eventgrid/systemtopics)',
  AuditEvent: 'key-vault/general/logging',
  'api://AzureADTokenExchange': 'entra/workload-id/workload-identity-federation-create-trust',
};

describe('infra/azure', () => {
  const python = findProgram('pycep-parser');
  const skip = whyNo('pycep-parser', python);
  let files: Readonly<Record<string, BicepFile>>;
  let texts: ReadonlyMap<string, string>;

  before(async () => {
    if (python === null) return;
    const names = (await readdir(folder)).filter((name) => name.endsWith('.bicep'));
    const script = join(import.meta.dirname, 'read_bicep.py');
    const { stdout } = await exec(python, [script, ...names.map((name) => join(folder, name))]);
    files = JSON.parse(stdout) as typeof files;
    const read = names.map(async (name): Promise<[string, string]> => [
      name,
      await readFile(join(folder, name), 'utf8'),
    ]);
    texts = new Map(await Promise.all(read));
  });

  const all = (): string => [...texts.values()].join('\n');
  const resources = (): Resource[] =>
    Object.values(files).flatMap((file) => Object.values(file.resources ?? {}));

  it('passes each module its parameters, and uses only its outputs', { skip }, () => {
    const main = files['main.bicep']!;
    const text = texts.get('main.bicep')!;
    const modules = Object.entries(main.modules ?? {});
    assert.equal(modules.length, Object.keys(files).length - 1);
    for (const [name, { config }] of modules) {
      const file = files[`${name}.bicep`]!;
      assert.ok(text.includes(`module ${name} '${name}.bicep'`), name);
      const parameters = Object.keys(file.parameters ?? {});
      assert.deepEqual(Object.keys(config.params).sort(), parameters.sort(), name);
      for (const parameter of parameters) {
        const uses = texts.get(`${name}.bicep`)!.match(new RegExp(`\\b${parameter}\\b`, 'g')) ?? [];
        assert.ok(uses.length > 1, `${name}.bicep does not use ${parameter}`);
      }
    }
    for (const [, name = '', output = ''] of text.matchAll(/\b(\w+)\.outputs\.(\w+)/g)) {
      assert.ok(output in (files[`${name}.bicep`]?.outputs ?? {}), `${name}.outputs.${output}`);
    }
  });

  it('describes each parameter and output, and requires only a name', { skip }, () => {
    const { parameters = {} } = files['main.bicep']!;
    const text = texts.get('main.bicep')!;
    const requiredNames: string[] = [];
    for (const [name, { decorators }] of Object.entries(parameters)) {
      assert.ok(
        decorators.some(({ type }) => type === 'description'),
        name,
      );
      if (!new RegExp(`^param ${name} [\\w[\\]]+ =`, 'm').test(text)) requiredNames.push(name);
    }
    assert.deepEqual(requiredNames, ['name']);
    for (const output of Object.keys(files['main.bicep']?.outputs ?? {})) {
      assert.match(text, new RegExp(`@description\\('.*'\\)\\noutput ${output} `));
    }
  });

  it('uses only documented resource types, roles and events', { skip }, () => {
    const types = resources().map(({ type, api_version: version }) => `${type}@${version}`);
    assert.deepEqual([...new Set(types)].sort(), Object.keys(documentedTypes).sort());
    const ids = all().match(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g);
    assert.deepEqual([...new Set(ids)].sort(), Object.keys(documentedRoles).sort());
    for (const [, name = '', id = ''] of all().matchAll(/(\w+): '([0-9a-f-]{36})'/g)) {
      const words = documentedRoles[id]!.replaceAll(' ', '');
      assert.equal(name, words.charAt(0).toLowerCase() + words.slice(1));
    }
    for (const name of Object.keys(documentedNames)) assert.ok(all().includes(`'${name}'`), name);
    const kinds = all().match(/'Microsoft\.Storage\.\w+'/g) ?? [];
    for (const kind of kinds) assert.ok(kind.slice(1, -1) in documentedNames, kind);
  });

  it('refers only to resources and variables of its own file', { skip }, () => {
    for (const [name, file] of Object.entries(files)) {
      const text = texts.get(name)!;
      const known = new Set([
        ...Object.keys(file.resources ?? {}),
        ...Object.keys(file.modules ?? {}),
        ...Object.keys(file.parameters ?? {}),
        ...[...text.matchAll(/^var (\w+) =/gm)].map(([, variable]) => variable),
        ...[...text.matchAll(/\bfor (\w+) in /g)].map(([, variable]) => variable),
      ]);
      for (const pattern of [
        /^ +(?:parent|scope): (\w+)$/gm,
        /(?<![\w.'])(\w+)\.(?:id|name|properties|outputs)\b/g,
      ]) {
        for (const [, symbol = ''] of text.matchAll(pattern)) {
          assert.ok(known.has(symbol), `${name}: ${symbol} is not declared`);
        }
      }
      for (const [, list = ''] of text.matchAll(/dependsOn: \[([^\]]*)\]/g)) {
        for (const symbol of list.split(', ')) assert.ok(known.has(symbol), `${name}: ${symbol}`);
      }
    }
  });

  it('gives CI no right to delete, and limits where it can write and read', { skip }, () => {
    const text = texts.get('roles.bicep')!;
    // "Permissions for Blob service operations" (rest/api/storageservices/authorize-with-azure-active-directory):
    // Put Block and Put Block List take `write`; `add/action` alone is enough for Put Blob of a new one.
    const actions = /dataActions: \[(.*)\]/.exec(text)?.[1];
    assert.equal(actions, "'${uploads}/read', '${uploads}/write', '${uploads}/add/action'");
    const role = /resource uploaderPrivate [\s\S]*?\n}\n/.exec(text)?.[0] ?? '';
    for (const bound of ['{prefix}staging/*', '{prefix}receipts/*', "conditionVersion: '2.0'"]) {
      assert.ok(role.includes(bound), bound);
    }
  });

  it(
    'lets auditors read the niche.json of a private cache, which locates the audit log',
    { skip },
    () => {
      const reading = /resource reading [\s\S]*?\n]\n/.exec(texts.get('roles.bicep')!)?.[0] ?? '';
      assert.match(reading, /for reader in union\(readers, auditors\):/);
      assert.match(reading, /roleIds\.storageBlobDataReader/);
    },
  );

  it('uses no account key where an identity suffices', { skip }, () => {
    const text = texts.get('function.bicep')!;
    assert.match(text, /allowSharedKeyAccess: false/);
    assert.doesNotMatch(all(), /listKeys|listAccountSas|connectionString\s*=/i);
  });
});
