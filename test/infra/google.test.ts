import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { format } from '@cdktn/hcl-tools';
import { convertFiles } from '@cdktn/hcl2json';
import { isAllowedByGoogle, readBindings } from '../support/servers/google-iam-policy.ts';
import type { BlockSchema } from './provider-schema.ts';

const folder = join(import.meta.dirname, '../../infra/google');
const fixtures = join(import.meta.dirname, '../fixtures/terraform');

/** The result of HashiCorp's own parser: blocks are arrays, expressions are strings with `${…}`. */
interface Module {
  readonly resource: Readonly<Record<string, Readonly<Record<string, readonly Block[]>>>>;
  readonly data: Readonly<Record<string, Readonly<Record<string, readonly Block[]>>>>;
  readonly variable: Readonly<Record<string, readonly Block[]>>;
  readonly output: Readonly<Record<string, readonly Block[]>>;
  readonly locals: readonly Block[];
}
type Block = Readonly<Record<string, unknown>>;

/** Terraform's own arguments, which every resource takes. */
const metaArguments = ['count', 'depends_on', 'for_each', 'lifecycle', 'provider'];

/** Roles, and the page of Google's documentation that lists each with its permissions. */
const documentedRoles: Readonly<Record<string, string>> = {
  'roles/artifactregistry.writer': 'iam/docs/roles-permissions/artifactregistry',
  'roles/cloudkms.cryptoKeyDecrypter': 'iam/docs/roles-permissions/cloudkms',
  'roles/cloudkms.cryptoKeyEncrypterDecrypter': 'iam/docs/roles-permissions/cloudkms',
  'roles/cloudkms.publicKeyViewer': 'iam/docs/roles-permissions/cloudkms',
  'roles/cloudkms.signer': 'iam/docs/roles-permissions/cloudkms',
  'roles/eventarc.eventReceiver': 'iam/docs/roles-permissions/eventarc',
  'roles/iam.workloadIdentityUser': 'iam/docs/roles-permissions/iam',
  'roles/logging.logWriter': 'iam/docs/roles-permissions/logging',
  'roles/logging.privateLogViewer': 'iam/docs/roles-permissions/logging',
  'roles/pubsub.publisher': 'iam/docs/roles-permissions/pubsub',
  'roles/pubsub.subscriber': 'iam/docs/roles-permissions/pubsub',
  'roles/run.invoker': 'iam/docs/roles-permissions/run',
  'roles/storage.legacyBucketReader': 'iam/docs/roles-permissions/storage',
  'roles/storage.legacyBucketWriter': 'iam/docs/roles-permissions/storage',
  'roles/storage.legacyObjectReader': 'iam/docs/roles-permissions/storage',
  'roles/storage.objectCreator': 'iam/docs/roles-permissions/storage',
  'roles/storage.objectUser': 'iam/docs/roles-permissions/storage',
  'roles/storage.objectViewer': 'iam/docs/roles-permissions/storage',
};

/** Other names of Google's services, and the page that lists them. */
const documentedNames: Readonly<Record<string, string>> = {
  'google.cloud.storage.object.v1.finalized': 'eventarc/docs/event-types',
  RETRY_POLICY_RETRY: 'functions/docs/reference/rest/v2/projects.locations.functions',
  ALLOW_INTERNAL_ONLY: 'functions/docs/reference/rest/v2/projects.locations.functions',
  nodejs24: 'functions/docs/runtime-support',
  EC_SIGN_ED25519: 'kms/docs/reference/rest/v1/CryptoKeyVersionAlgorithm',
  ASYMMETRIC_SIGN: 'kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys',
  ENCRYPT_DECRYPT: 'kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys',
  AbortIncompleteMultipartUpload: 'storage/docs/lifecycle',
  Delete: 'storage/docs/lifecycle',
};

/** The names of a deployment, for {@link readBindings}. */
const names = {
  'local.public_bucket': 'public',
  'local.staging_bucket': 'staging',
  'local.private_bucket': 'private',
  'var.prefix': 'team/',
};

describe('infra/google', () => {
  let module: Module;
  let schema: Readonly<Record<string, BlockSchema>>;
  let text: string;

  before(async () => {
    module = (await convertFiles(folder)) as unknown as Module;
    schema = JSON.parse(await readFile(join(fixtures, 'google.json'), 'utf8')) as typeof schema;
    text = JSON.stringify(module);
  });

  const resources = (): [string, string, Block][] =>
    Object.entries(module.resource).flatMap(([type, named]) =>
      Object.entries(named).flatMap(([name, blocks]) =>
        blocks.map((block): [string, string, Block] => [type, name, block]),
      ),
    );

  it('gives each resource only known arguments, and all required ones', () => {
    for (const [type, name, block] of resources()) {
      const known = schema[type];
      assert.ok(known, `${type} is not in the provider's schema`);
      checkBlock(block, known, `${type}.${name}`);
    }
    for (const [type, named] of Object.entries(module.data)) {
      if (!type.startsWith('google_')) continue;
      for (const [name, [block]] of Object.entries(named)) {
        checkBlock(block!, schema[`data.${type}`]!, `data.${type}.${name}`);
      }
    }
  });

  it('refers only to resources and variables that exist', () => {
    const locals = new Set(module.locals.flatMap((block) => Object.keys(block)));
    const used = { variables: new Set<string>(), locals: new Set<string>() };
    for (const [, name = ''] of text.matchAll(/\bvar\.(\w+)/g)) {
      assert.ok(name in module.variable, `var.${name} is not declared`);
      used.variables.add(name);
    }
    for (const [, name = ''] of text.matchAll(/\blocal\.(\w+)/g)) {
      assert.ok(locals.has(name), `local.${name} is not declared`);
      used.locals.add(name);
    }
    for (const [, isData, type = '', name = ''] of text.matchAll(
      /(?<![\w.])(data\.)?((?:google|archive)_\w+)\.(\w+)/g,
    )) {
      const declared = isData === undefined ? module.resource[type] : module.data[type];
      assert.ok(declared && name in declared, `${type}.${name} is not declared`);
    }
    assert.deepEqual([...used.variables].sort(), Object.keys(module.variable).sort());
    assert.deepEqual([...used.locals].sort(), [...locals].sort());
  });

  it('describes each variable and output, and requires only the project', () => {
    const asked: string[] = [];
    for (const [name, [block]] of Object.entries(module.variable)) {
      assert.match(String(block?.['description']), /^[A-Z].*[.:"]$/s, `variable ${name}`);
      assert.ok(block && 'type' in block, `variable ${name} has no type`);
      if (!('default' in block)) asked.push(name);
    }
    for (const [name, [block]] of Object.entries(module.output)) {
      assert.match(String(block?.['description']), /^[A-Z].*\.$/, `output ${name}`);
    }
    assert.deepEqual(asked, ['project']);
  });

  it('uses only documented roles and event types', () => {
    const roles = new Set(text.match(/roles\/[A-Za-z.]+/g));
    assert.deepEqual([...roles].sort(), Object.keys(documentedRoles));
    const values = new Set<string>();
    const named = [
      'event_type',
      'retry_policy',
      'ingress_settings',
      'runtime',
      'algorithm',
      'purpose',
    ];
    for (const [, , block] of resources()) collect(block, [...named, 'action'], values);
    assert.deepEqual([...values].sort(), Object.keys(documentedNames).sort());
  });

  it('lets only the functions sign, and grants no role that can write in the whole project', () => {
    const ofKeys = Object.values(module.resource['google_kms_crypto_key_iam_member']!).flat();
    assert.deepEqual(
      ofKeys.map(({ crypto_key_id: key, role, for_each: members }) => [key, role, members]),
      [
        ['documents', 'cryptoKeyEncrypterDecrypter', 'toset(var.administrators)'],
        ['signing', 'publicKeyViewer', 'toset(var.administrators)'],
        ['documents', 'cryptoKeyDecrypter', 'local.functions'],
        ['signing', 'signer', 'local.functions'],
      ].map(([key, role, members]) => [
        `\${google_kms_crypto_key.${key}.id}`,
        `roles/cloudkms.${role}`,
        `\${${members}}`,
      ]),
    );
    const ofProject = Object.values(module.resource['google_project_iam_member']!).flat();
    for (const { role, condition } of ofProject) {
      assert.doesNotMatch(String(role), /cloudkms|owner|editor|admin/i);
      // A condition limits a storage role to certain buckets.
      if (String(role).includes('storage')) assert.ok(Array.isArray(condition), String(role));
    }
  });

  it('lets the build read the source in the bucket of Cloud Run functions', () => {
    const [reads] = module.resource['google_project_iam_member']!['builder_reads']!;
    const [{ expression }] = reads!['condition'] as [Block];
    assert.equal(
      expression,
      'resource.name.startsWith("projects/_/buckets/gcf-v2-sources-${data.google_project.this.number}-${var.region}")',
    );
    for (const [name, [built]] of Object.entries(
      module.resource['google_cloudfunctions2_function']!,
    )) {
      assert.match(JSON.stringify(built!['depends_on']), /builder_reads/, name);
    }
  });

  it('gives uploaders no right on the private bucket, and the right to create below staging/', async () => {
    const bindings = await readBindings(names);
    const prefix = 'projects/_/buckets/staging/objects/team';
    assert.deepEqual(
      bindings.filter(({ member }) => member === 'uploader'),
      [
        ['public', 'legacyObjectReader', undefined],
        [
          'staging',
          'objectViewer',
          `resource.name.startsWith("${prefix}/receipts/") || api.getAttribute("storage.googleapis.com/objectListPrefix", "").startsWith("team/receipts/")`,
        ],
        ['staging', 'objectCreator', `resource.name.startsWith("${prefix}/staging/")`],
      ].map(([bucket, role, condition]) => ({
        bucket,
        role: `roles/storage.${role}`,
        member: 'uploader',
        condition,
      })),
    );
  });

  it('gives the publisher no right to delete or replace a public object, and the sweep no right to read uploads', async () => {
    const bindings = await readBindings(names);
    const can = (member: string, permission: string, bucket: string, key: string): boolean =>
      isAllowedByGoogle({ permission, bucket, object: `team/${key}` }, member, bindings);
    for (const key of [
      `${'a'.repeat(32)}.narinfo`,
      `${'a'.repeat(32)}.ls`,
      'nar/x.nar',
      'log/x.drv',
      'realisations/x.doi',
      'build-trace-v2/x.drv/out.doi',
      'debuginfo/x.debug',
    ]) {
      assert.equal(can('publisher', 'objects.create', 'public', key), true, key);
      assert.equal(can('publisher', 'objects.delete', 'public', key), false, key);
      assert.equal(can('sweep', 'objects.delete', 'public', key), true, key);
    }
    for (const member of ['publisher', 'sweep']) {
      for (const permission of ['objects.create', 'objects.delete']) {
        assert.equal(can(member, permission, 'public', 'niche.json'), false);
      }
    }
    assert.equal(can('sweep', 'objects.get', 'staging', 'staging/x/0.json'), false);
    assert.equal(can('publisher', 'objects.get', 'private', 'audit/x.jsonl'), false);
    assert.equal(can('auditors', 'objects.get', 'private', 'audit/x.jsonl'), true);
    for (const member of ['publisher', 'sweep', 'auditors', 'administrators']) {
      assert.equal(can(member, 'objects.delete', 'private', 'audit/x.jsonl'), false, member);
    }
  });

  it('has the trigger and the expiry of uploads on the staging bucket', () => {
    const [publish] = module.resource['google_cloudfunctions2_function']!['publish']!;
    const [trigger] = publish!['event_trigger'] as [Block];
    const [filter] = trigger['event_filters'] as [Block];
    assert.equal(filter['value'], '${google_storage_bucket.staging.name}');
    const [staging] = module.resource['google_storage_bucket']!['staging']!;
    assert.deepEqual(staging!['soft_delete_policy'], [{ retention_duration_seconds: 0 }]);
    const rules = (staging!['lifecycle_rule'] as Block[]).map(({ condition }) => condition);
    assert.deepEqual(rules, [
      [{ age: 1 }],
      [{ age: 14, matches_prefix: ['${var.prefix}staging/'] }],
      [{ age: 45, matches_prefix: ['${var.prefix}receipts/'] }],
    ]);
  });

  it('exposes no bucket but the public one', () => {
    for (const [name, [bucket]] of Object.entries(module.resource['google_storage_bucket']!)) {
      const prevention = bucket!['public_access_prevention'];
      if (name === 'public')
        assert.match(String(prevention), /contains\(var.readers, "allUsers"\)/);
      else assert.equal(prevention, 'enforced', name);
    }
  });

  it('lets auditors read the niche.json of a private cache, which locates the audit log', () => {
    const [reader] = module.resource['google_storage_bucket_iam_member']!['reader']!;
    assert.equal(reader!['for_each'], '${toset(concat(var.readers, var.auditors))}');
    assert.equal(reader!['role'], 'roles/storage.legacyObjectReader');
  });

  it('has HashiCorp’s format', async () => {
    const names = (await readdir(folder)).filter((name) => name.endsWith('.tf'));
    for (const name of names) {
      const text = await readFile(join(folder, name), 'utf8');
      assert.equal(await format(text), text, name);
    }
  });

  it('limits federation to the listed repositories', () => {
    const providers = module.resource['google_iam_workload_identity_pool_provider']!;
    for (const [name, [provider]] of Object.entries(providers)) {
      assert.match(String(provider!['attribute_condition']), /assertion\.\w+ in /, name);
    }
  });

  it('accepts a protected branch of GitLab, and no tag of the same name', () => {
    const [provider] = module.resource['google_iam_workload_identity_pool_provider']!['gitlab']!;
    const condition = String(provider!['attribute_condition']);
    assert.match(condition, /assertion\.ref_type == \\?"branch\\?"/);
    assert.match(condition, /assertion\.ref_protected == \\?"true\\?"/);
  });
});

function checkBlock(block: Block, schema: BlockSchema, where: string): void {
  const { dynamic = {}, ...given } = block as Block & {
    dynamic?: Record<string, readonly Block[]>;
  };
  for (const [name, value] of Object.entries(given)) {
    if (metaArguments.includes(name)) continue;
    const known = schema[name];
    assert.ok(known, `${where}: the provider takes no ${name}`);
    if (known.block === undefined || !Array.isArray(value)) continue;
    for (const inner of value as readonly Block[])
      checkBlock(inner, known.block, `${where}.${name}`);
  }
  for (const [name, blocks] of Object.entries(dynamic)) {
    for (const { content } of blocks) {
      const known = schema[name]?.block;
      assert.ok(known, `${where}: the provider takes no block ${name}`);
      for (const inner of content as readonly Block[]) checkBlock(inner, known, `${where}.${name}`);
    }
  }
  for (const [name, { optional }] of Object.entries(schema)) {
    assert.ok(optional || name in given || name in dynamic, `${where}: ${name} is missing`);
  }
}

/** Collects all plain values of the arguments `names` at any depth, and the `type` of `action` blocks. */
function collect(value: unknown, names: readonly string[], found: Set<string>): void {
  if (Array.isArray(value)) for (const each of value) collect(each, names, found);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return;
  for (const [name, inner] of Object.entries(value)) {
    if (names.includes(name) && typeof inner === 'string') found.add(inner);
    else if (name === 'action') collectTypes(inner, found);
    else collect(inner, names, found);
  }
}

function collectTypes(actions: unknown, found: Set<string>): void {
  for (const { type } of actions as { type: string }[]) found.add(type);
}
