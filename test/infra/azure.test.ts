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
  '19e7f393-937e-4f77-808e-94535e297925': 'Storage Queue Data Reader',
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
    const fileOf = new Map(
      [...text.matchAll(/^module (\w+) '(\w+\.bicep)'/gm)].map(([, name, file]) => [name, file!]),
    );
    assert.deepEqual(new Set(['main.bicep', ...fileOf.values()]), new Set(Object.keys(files)));
    for (const [name, { config }] of modules) {
      const file = fileOf.get(name)!;
      const parameters = Object.keys(files[file]!.parameters ?? {});
      assert.deepEqual(Object.keys(config.params).sort(), parameters.sort(), name);
      for (const parameter of parameters) {
        const uses = texts.get(file)!.match(new RegExp(`\\b${parameter}\\b`, 'g')) ?? [];
        assert.ok(uses.length > 1, `${file} does not use ${parameter}`);
      }
    }
    for (const [, name = '', output = ''] of text.matchAll(/\b(\w+)\.outputs\.(\w+)/g)) {
      const outputs = files[fileOf.get(name) ?? '']?.outputs ?? {};
      assert.ok(output in outputs, `${name}.outputs.${output}`);
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

  /** Returns a role assignment. */
  function assignment(file: string, name: string): string {
    const text = new RegExp(`resource ${name} [\\s\\S]*?\\n}\\n`).exec(texts.get(file)!)?.[0];
    assert.ok(text !== undefined, name);
    return text;
  }

  /** Returns the condition of a role assignment, with its variables replaced. */
  function conditionOf(file: string, name: string): string {
    const text = texts.get(file)!;
    const variables = new Map(
      [...text.matchAll(/^var (\w+) = '(.*)'$/gm)].map(([, variable, value]) => [variable, value!]),
    );
    const expand = (value: string): string =>
      value.replace(/\$\{(\w+)\}/g, (whole, variable: string) => {
        const known = variables.get(variable);
        return known === undefined ? whole : expand(known);
      });
    const condition = /condition: '(.*)'\n/.exec(assignment(file, name))?.[1] ?? '';
    return expand(condition).replaceAll("\\'", "'");
  }

  it(
    'lets CI write below staging/ and read below receipts/, both in the staging container',
    { skip },
    () => {
      const text = texts.get('roles.bicep')!;
      // "Permissions for Blob service operations" (rest/api/storageservices/authorize-with-azure-active-directory):
      // Put Block and Put Block List take `write`; `add/action` alone is enough for Put Blob of a new one.
      const actions = /dataActions: \[(.*)\]/.exec(text)?.[1];
      assert.equal(actions, "'${uploads}/read', '${uploads}/write', '${uploads}/add/action'");
      const role = assignment('roles.bicep', 'uploaderStaging');
      assert.match(role, /scope: staging\n/);
      for (const bound of ['{prefix}staging/*', '{prefix}receipts/*', "conditionVersion: '2.0'"]) {
        assert.ok(role.includes(bound), bound);
      }
      // Everything else that CI has: reading the cache.
      const scopes = [...text.matchAll(/scope: (\w+)\n[^}]*?principalId: uploaderPrincipal/g)];
      assert.deepEqual(scopes.map(([, scope]) => scope).sort(), ['public', 'staging']);
      assert.match(assignment('roles.bicep', 'uploaderPublic'), /storageBlobDataReader/);
    },
  );

  it('lets the publisher delete nothing public, and only the sweep delete there', { skip }, () => {
    const text = texts.get('appRoles.bicep')!;
    assert.match(
      assignment('appRoles.bicep', 'publisherPublic'),
      /roleDefinitionId: writerRole\.id/,
    );
    assert.doesNotMatch(assignment('appRoles.bicep', 'writerRole'), /delete'/);
    assert.match(assignment('appRoles.bicep', 'sweepPublic'), /roleDefinitionId: keeperRole\.id/);
    // With `containers/write`, an app could make the private container public.
    assert.doesNotMatch(text, /containers\/write|storageBlobData/);
    assert.doesNotMatch(text, / actions: \[[^\]]/);
  });

  it('limits what both apps write and delete by name', { skip }, () => {
    const below =
      "@Resource[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:path] StringLike '${prefix}";
    const realisations = ['realisations/*', 'build-trace-v2/*'];
    const published = ['*.narinfo', '*.ls', 'nar/*', 'log/*', ...realisations, 'debuginfo/*'];
    const state = ['pending/*', 'waiting/*', 'attempts/*', 'realised/*'];
    const markers = ['blocked/undone-*', 'blocked/deleting-*', 'blocked/purging-*'];
    const expected: Readonly<Record<string, readonly [writes: string[], deletes: string[]]>> = {
      publisherPublic: [published, []],
      publisherStaging: [['receipts/*'], ['staging/*']],
      publisherPrivate: [[...state, 'audit/*'], state],
      sweepPublic: [published, published],
      sweepStaging: [['receipts/*'], ['staging/*', 'receipts/*']],
      sweepPrivate: [
        [...state, 'audit/*', 'blocked/*'],
        [...state, ...markers],
      ],
    };
    for (const [name, [writes, deletes]] of Object.entries(expected)) {
      const blob = 'Microsoft.Storage/storageAccounts/blobServices/containers/blobs';
      const any = (patterns: readonly string[]): string =>
        patterns.map((pattern) => `${below}${pattern}'`).join(' OR ');
      const action = (kind: string): string => `!(ActionMatches{'${blob}/${kind}'})`;
      const onWrite = `((${action('write')} AND ${action('add/action')}) OR (${any(writes)}))`;
      const onDelete = `((${action('delete')}) OR (${any(deletes)}))`;
      const condition = deletes.length === 0 ? onWrite : `${onWrite} AND ${onDelete}`;
      assert.equal(conditionOf('appRoles.bicep', name), condition, name);
      const role = assignment('appRoles.bicep', name);
      assert.match(role, new RegExp(`principalId: ${/^[a-z]+/.exec(name)?.[0] ?? ''}Principal`));
    }
  });

  it(
    'has a separate app, identity and host storage for the publisher and the sweep',
    { skip },
    () => {
      const main = texts.get('main.bicep')!;
      for (const role of ['publisher', 'sweep']) {
        const call = new RegExp(`module ${role} 'function.bicep' [\\s\\S]*?\\n}\\n`).exec(
          main,
        )?.[0];
        assert.ok(call?.includes(`role: '${role}'`));
        assert.ok(call?.includes(`identityId: identities.outputs.${role}Id`));
      }
      const app = texts.get('function.bicep')!;
      assert.match(app, /storageAccounts@[\d-]+' = {\n {2}name: .*role/);
      assert.equal([...app.matchAll(/'\$\{identityId\}': {}/g)].length, 1);
    },
  );

  it('watches and cleans up the staging container', { skip }, () => {
    const filter = /subjectBeginsWith: '(.*)'/.exec(texts.get('events.bicep')!)?.[1];
    assert.equal(
      filter,
      '/blobServices/default/containers/${stagingContainer}/blobs/${prefix}staging/',
    );
    const storage = texts.get('storage.bicep')!;
    for (const folder of ['staging', 'receipts']) {
      assert.ok(storage.includes(`'\${staging.name}/\${prefix}${folder}/'`), folder);
    }
    // A blob with snapshots is not deleted without them.
    assert.equal([...storage.matchAll(/snapshot: {\n +delete: {/g)].length, 2);
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
