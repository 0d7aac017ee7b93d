import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { findProgram } from '../../setup/programs.ts';
import { requireTool } from '../../support/assert/required.ts';
import { packageDeployment } from '../../support/servers/aws-deployment.ts';
import type { PackagedDeployment } from '../../support/servers/aws-deployment.ts';
import { resolveTemplate } from '../../support/servers/aws-template.ts';
import type { ResolvedTemplate } from '../../support/servers/aws-template.ts';
import { isAllowed } from '../../support/servers/iam-policy.ts';
import type { PolicyDocument, Statement } from '../../support/servers/iam-policy.ts';

const exec = promisify(execFile);
const account = '123456789012';
const key = `arn:aws:kms:eu-central-1:${account}:key/1234abcd-12ab-34cd-56ef-1234567890ab`;

/** A value for every parameter. */
const everything = {
  name: 'acme',
  region: 'eu-north-1',
  reads: 'cloudfront',
  domain: 'cache.example.org',
  certificate: `arn:aws:acm:us-east-1:${account}:certificate/1234abcd-12ab-34cd-56ef-1234567890ab`,
  publicBucket: 'team-public',
  publicPrefix: 'nix/',
  stagingBucket: 'team-staging',
  stagingPrefix: 'nix/',
  privateBucket: 'team-private',
  privatePrefix: 'nix/',
  key,
  keyName: 'acme-2',
  moreSigners: `aws-kms:${key}?name=acme-1`,
  moreKeys: key,
  decryptKeys: key,
  githubRepository: 'acme/nix',
  githubRef: '*',
  gitlabProject: 'acme/nix',
  createGithubProvider: 'yes',
  createGitlabProvider: 'yes',
  uploaders: `arn:aws:iam::${account}:role/ci,arn:aws:iam::${account}:role/cd`,
  auditors: `arn:aws:iam::${account}:role/audit`,
  administrators: `arn:aws:iam::${account}:role/admin`,
  memory: 1769,
  timeLimit: 600,
  visibility: 660,
  concurrency: 2,
  alarmTopic: `arn:aws:sns:eu-north-1:${account}:alarms`,
};

describe('the packaged AWS deployment', () => {
  let folder: string;
  let main: PackagedDeployment;
  let pr: PackagedDeployment;
  let whole: PackagedDeployment;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'niche-template-'));
    const uploaders = `arn:aws:iam::${account}:role/ci`;
    const auditors = `arn:aws:iam::${account}:role/audit`;
    const administrators = `arn:aws:iam::${account}:role/admin`;
    main = await packageDeployment(folder, 'main', {
      uploaders,
      auditors,
      administrators,
      githubRepository: 'acme/nix',
      gitlabProject: 'acme/nix',
    });
    pr = await packageDeployment(folder, 'pr', { githubRepository: 'acme/nix', githubRef: '*' });
    whole = await packageDeployment(folder, 'all', everything);
  });
  after(async () => rm(folder, { recursive: true, force: true }));

  it('passes cfn-lint, with the defaults and with everything set', async (t) => {
    const command = requireTool(t, 'cfn-lint', findProgram('cfn-lint'));
    if (command === null) return;
    for (const { folder: packaged } of [main, pr, whole]) {
      const file = join(packaged, 'cloudformation-template-update-stack.json');
      // osls adds a redundant DependsOn on the role, and an unset certificate is never referenced.
      await exec(command, ['--template', file, '--ignore-checks', 'W3005', 'W1030']);
    }
  });

  it('has one small file per function, without source maps', async () => {
    for (const name of ['publish', 'sweep']) {
      const zip = await exec('python3', ['-m', 'zipfile', '-l', join(main.folder, `${name}.zip`)]);
      const files = zip.stdout.trim().split('\n').slice(1);
      assert.equal(files.length, 1, zip.stdout);
      assert.match(files[0] ?? '', new RegExp(`^infra/aws/functions/${name}\\.mjs `));
      const bundle = join(folder, `service/infra/aws/functions/${name}.mjs`);
      assert.ok((await stat(bundle)).size <= 1024 * 1024);
      assert.doesNotMatch(await readFile(bundle, 'utf8'), /sourceMappingURL/);
    }
  });

  it('grants each role only the permissions it needs', () => {
    const template = resolveTemplate(main.template);
    for (const [role, verdict, action, resource, context] of table('niche-main', '')) {
      const policies = [...policiesOf(template, role), ...resourcePolicies(template, resource)];
      const principal = `arn:aws:iam::${account}:role/niche-main-${role}`;
      const request = {
        action,
        resource,
        context: { 'aws:SecureTransport': 'true', 'aws:PrincipalArn': principal, ...context },
      };
      assert.equal(
        isAllowed(request, policies),
        verdict === 'may',
        `${role} ${verdict} ${action} ${resource} ${JSON.stringify(context ?? {})}`,
      );
    }
  });

  it('stays within its prefixes in shared buckets', () => {
    const template = resolveTemplate(whole.template);
    const [pub, staging, priv] = ['public', 'staging', 'private'].map(
      (root) => `arn:aws:s3:::team-${root}`,
    );
    const rows: [string, boolean, string, string][] = [
      ['publisher', true, 's3:GetObject', `${staging}/nix/staging/u/0.json`],
      ['publisher', false, 's3:GetObject', `${staging}/staging/u/0.json`],
      ['publisher', true, 's3:PutObject', `${pub}/nix/abc.narinfo`],
      ['publisher', false, 's3:PutObject', `${pub}/abc.narinfo`],
      ['publisher', false, 's3:PutObject', `${pub}/other/nar/abc`],
      ['sweep', true, 's3:DeleteObject', `${pub}/nix/abc.narinfo`],
      ['sweep', false, 's3:DeleteObject', `${pub}/abc.narinfo`],
      ['uploader', true, 's3:GetObject', `${staging}/nix/receipts/u/x.json`],
      ['uploader', false, 's3:GetObject', `${staging}/receipts/u/x.json`],
      ['administrator', false, 's3:PutObject', `${priv}/blocked/abc`],
      ['auditor', false, 's3:GetObject', `${priv}/audit/x.jsonl`],
    ];
    for (const [role, expected, action, resource] of rows) {
      const allowed = isAllowed({ action, resource }, policiesOf(template, role));
      assert.equal(allowed, expected, `${role} ${action} ${resource}`);
    }
    for (const bucket of ['PublicBucket', 'StagingBucket', 'PrivateBucket']) {
      assert.ok(!template.resources.has(bucket));
    }
    assert.ok(!template.resources.has('SigningKey'));
    assert.equal(template.resources.get('StagedRule')?.Type, 'AWS::Events::Rule');
    assert.equal(template.outputs.get('CacheUrl'), 'https://cache.example.org/nix');
    assert.equal(template.outputs.get('Signer'), `aws-kms:${key}?name=acme-2`);
  });

  it('trusts only the configured jobs', () => {
    const hub = 'token.actions.githubusercontent.com';
    const lab = 'gitlab.com';
    const rows: [PackagedDeployment, boolean, string, Record<string, string>][] = [
      [main, true, hub, { aud: 'sts.amazonaws.com', sub: 'repo:acme/nix:ref:refs/heads/main' }],
      [main, false, hub, { aud: 'sts.amazonaws.com', sub: 'repo:acme/nix:pull_request' }],
      [main, false, hub, { aud: 'sts.amazonaws.com', sub: 'repo:evil/nix:ref:refs/heads/main' }],
      [main, false, hub, { aud: 'other', sub: 'repo:acme/nix:ref:refs/heads/main' }],
      [main, false, hub, { sub: 'repo:acme/nix:ref:refs/heads/main' }],
      [pr, true, hub, { aud: 'sts.amazonaws.com', sub: 'repo:acme/nix:pull_request' }],
      [pr, false, hub, { aud: 'sts.amazonaws.com', sub: 'repo:acme/nix-evil:pull_request' }],
      [
        main,
        true,
        lab,
        { aud: 'https://gitlab.com', sub: 'project_path:acme/nix:ref_type:branch:ref:main' },
      ],
      [
        main,
        false,
        lab,
        { aud: 'https://gitlab.com', sub: 'project_path:acme/nix:ref_type:branch:ref:x' },
      ],
      [
        pr,
        false,
        lab,
        { aud: 'https://gitlab.com', sub: 'project_path:acme/nix:ref_type:branch:ref:main' },
      ],
    ];
    for (const [packaged, expected, host, claims] of rows) {
      const trust = trustOf(resolveTemplate(packaged.template), 'UploaderRole').filter(
        ({ Principal }) => JSON.stringify(Principal).includes(`oidc-provider/${host}`),
      );
      const context = Object.fromEntries(
        Object.entries(claims).map(([claim, value]) => [`${host}:${claim}`, value]),
      );
      const request = { action: 'sts:AssumeRoleWithWebIdentity', resource: '*', context };
      assert.equal(isAllowed(request, [{ Statement: trust }]), expected, JSON.stringify(claims));
    }
  });

  it('isolates two deployments from each other', () => {
    const [one, other] = [resolveTemplate(main.template), resolveTemplate(pr.template)];
    for (const role of ['publisher', 'sweep', 'uploader']) {
      for (const action of ['s3:GetObject', 's3:PutObject', 's3:DeleteObject', 's3:ListBucket']) {
        for (const place of ['', '/staging/u/0.json', '/receipts/u/x', '/nar/x', '/x.narinfo']) {
          for (const bucket of ['public', 'staging', 'private']) {
            const resource = `arn:aws:s3:::niche-main-${bucket}-${account}${place}`;
            const context = { 's3:if-none-match': '*', 's3:ObjectCreationOperation': 'true' };
            assert.ok(!isAllowed({ action, resource, context }, policiesOf(other, role)));
          }
        }
      }
    }
    const principal = `arn:aws:iam::${account}:role/niche-pr-publisher`;
    const mainKey = one.resources.get('SigningKey')?.Properties['KeyPolicy'] as PolicyDocument;
    const request = {
      action: 'kms:Sign',
      resource: '*',
      context: { 'aws:PrincipalArn': principal },
    };
    assert.ok(!isAllowed(request, [mainKey]));
  });

  it('makes only the public bucket readable', () => {
    const read = {
      action: 's3:GetObject',
      resource: `arn:aws:s3:::niche-main-public-${account}/x.narinfo`,
      context: { 'aws:SecureTransport': 'true' },
    };
    assert.ok(isAllowed(read, resourcePolicies(resolveTemplate(main.template), read.resource)));
    for (const action of [
      's3:ListBucket',
      's3:PutObject',
      's3:DeleteObject',
      's3:GetBucketPolicy',
    ]) {
      const policies = resourcePolicies(resolveTemplate(main.template), read.resource);
      assert.ok(!isAllowed({ ...read, action }, policies), action);
    }
    for (const secret of ['staging-X/staging/u/0.nars', 'private-X/audit/x.jsonl']) {
      const resource = `arn:aws:s3:::niche-main-${secret.replace('X', account)}`;
      const policies = resourcePolicies(resolveTemplate(main.template), resource);
      assert.ok(!isAllowed({ ...read, resource }, policies), resource);
    }
  });

  it('retains buckets and keys on removal', () => {
    for (const [name, { Type, DeletionPolicy }] of resolveTemplate(main.template).resources) {
      const isKept = /^AWS::(?:S3::Bucket|KMS::Key)$/.test(Type) && !name.startsWith('Serverless');
      if (isKept) assert.equal(DeletionPolicy, 'RetainExceptOnCreate', name);
    }
  });

  it('hides a message for longer than an invocation can run', () => {
    for (const { template } of [main, whole]) {
      const { resources } = resolveTemplate(template);
      for (const [queue, name] of [
        ['Queue', 'PublishLambdaFunction'],
        ['Withdrawals', 'SweepLambdaFunction'],
      ] as const) {
        const visible = Number(resources.get(queue)?.Properties['VisibilityTimeout']);
        const limit = Number(resources.get(name)?.Properties['Timeout']);
        assert.ok(visible > limit, queue);
      }
    }
  });
});

type Row = [
  role: string,
  verdict: 'may' | 'may not',
  action: string,
  resource: string,
  context?: Context,
];

type Context = Readonly<Record<string, string>>;

function table(id: string, prefix: string): Row[] {
  const [pub, staging, priv] = ['public', 'staging', 'private'].map(
    (root) => `arn:aws:s3:::${id}-${root}-${account}`,
  ) as [string, string, string];
  const at = (bucket: string, name: string): string => `${bucket}/${prefix}${name}`;
  const queue = `arn:aws:sqs:eu-central-1:${account}:${id}`;
  const withdrawals = `${queue}-withdrawals`;
  const signing = `arn:aws:kms:eu-central-1:${account}:key/SigningKey`;
  const create = { 's3:if-none-match': '*', 's3:ObjectCreationOperation': 'true' };
  const replace = { 's3:ObjectCreationOperation': 'true' };
  const part = { 's3:ObjectCreationOperation': 'false' };
  const upload = '0198c0de-0000-7000-8000-000000000001';
  const nars = at(staging, `staging/${upload}/0.nars`);
  const asNix = { 'kms:SigningAlgorithm': 'ED25519_SHA_512', 'kms:MessageType': 'RAW' };
  const published = ['abc.narinfo', 'abc.ls', 'nar/abc.nar.zst', 'log/abc.drv'];
  const documents = ['niche.json', 'niche.client.json', 'nix-cache-info'];
  const records = ['pending', 'waiting', 'attempts', 'blocked', 'audit', 'publishers'];
  /** The rights that both functions have. */
  const publishes = (role: string): Row[] => [
    [role, 'may', 's3:GetObject', at(pub, 'niche.json')],
    ...published.map((name): Row => [role, 'may', 's3:PutObject', at(pub, name), create]),
    ...documents.map((name): Row => [role, 'may not', 's3:PutObject', at(pub, name), create]),
    ...[pub, staging, priv].map((bucket): Row => [role, 'may', 's3:ListBucket', bucket]),
    [role, 'may not', 's3:PutBucketPolicy', pub],
    [role, 'may', 's3:PutObject', at(staging, `receipts/${upload}/x.published.json`), replace],
    [role, 'may not', 's3:PutObject', nars, create],
    ...['pending', 'waiting', 'attempts'].flatMap((name): Row[] => [
      [role, 'may', 's3:PutObject', at(priv, `${name}/x`), create],
      [role, 'may', 's3:DeleteObject', at(priv, `${name}/x`)],
    ]),
    [role, 'may', 's3:GetObject', at(priv, 'blocked/abc')],
    [role, 'may not', 's3:DeleteObject', at(priv, 'blocked/abc')],
    [role, 'may', 's3:PutObject', at(priv, 'audit/2026/x.jsonl'), create],
    [role, 'may not', 's3:PutObject', at(priv, 'audit/2026/x.jsonl'), replace],
    [role, 'may not', 's3:DeleteObject', at(priv, 'audit/2026/x.jsonl')],
    [role, 'may not', 's3:PutObject', at(priv, 'niche.signing.json'), create],
    [role, 'may', 'kms:Sign', signing, asNix],
    [role, 'may not', 'kms:Sign', signing, { ...asNix, 'kms:MessageType': 'DIGEST' }],
    [role, 'may not', 'kms:ScheduleKeyDeletion', signing],
    [role, 'may not', 'kms:PutKeyPolicy', signing],
    [role, 'may', 'sqs:SendMessage', queue],
    [role, 'may not', 'sqs:PurgeQueue', queue],
    [role, 'may not', 'iam:PassRole', '*'],
  ];
  return [
    ...publishes('publisher'),
    ...[...published, ...documents].flatMap((name): Row[] => [
      ['publisher', 'may not', 's3:DeleteObject', at(pub, name)],
      ['publisher', 'may not', 's3:DeleteObjectVersion', at(pub, name)],
    ]),
    ['publisher', 'may', 's3:GetObject', nars],
    ['publisher', 'may', 's3:DeleteObject', at(staging, `staging/${upload}/0.json`)],
    ['publisher', 'may not', 's3:GetObject', at(staging, `receipts/${upload}/x.published.json`)],
    ['publisher', 'may', 's3:AbortMultipartUpload', at(pub, 'nar/abc.nar.zst')],
    ['publisher', 'may not', 's3:GetObject', at(priv, 'audit/2026/x.jsonl')],
    ['publisher', 'may not', 's3:PutObject', at(priv, 'blocked/abc'), create],
    ['publisher', 'may', 'sqs:ReceiveMessage', queue],
    ['publisher', 'may', 'sqs:SendMessage', withdrawals],
    ['publisher', 'may not', 'sqs:ReceiveMessage', withdrawals],

    ...publishes('sweep'),
    ...published.flatMap((name): Row[] => [
      ['sweep', 'may', 's3:DeleteObject', at(pub, name)],
      ['sweep', 'may', 's3:DeleteObjectVersion', at(pub, name)],
    ]),
    ...documents.map((name): Row => ['sweep', 'may not', 's3:DeleteObject', at(pub, name)]),
    // It never reads staged NARs and manifests.
    ['sweep', 'may not', 's3:GetObject', nars],
    ['sweep', 'may', 's3:DeleteObject', nars],
    ['sweep', 'may', 's3:DeleteObject', at(staging, `receipts/${upload}/x.published.json`)],
    // It reads the age of the last part of an unfinished upload, then aborts the upload.
    ...[at(pub, 'nar/abc.nar.zst'), nars].flatMap((key): Row[] => [
      ['sweep', 'may', 's3:ListMultipartUploadParts', key],
      ['sweep', 'may', 's3:AbortMultipartUpload', key],
    ]),
    ['sweep', 'may', 's3:ListBucketMultipartUploads', pub],
    ['sweep', 'may', 's3:ListBucketMultipartUploads', staging],
    ['sweep', 'may', 's3:GetObject', at(priv, 'audit/2026/x.jsonl')],
    ['sweep', 'may', 's3:PutObject', at(priv, 'blocked/deleting-abc-0')],
    ['sweep', 'may', 's3:DeleteObject', at(priv, 'blocked/deleting-abc-0')],
    ['sweep', 'may not', 's3:DeleteObject', at(priv, 'blocked/nar-abc')],
    ['sweep', 'may', 'sqs:ReceiveMessage', withdrawals],
    ['sweep', 'may not', 'sqs:ReceiveMessage', queue],

    ['uploader', 'may', 's3:PutObject', nars, create],
    ['uploader', 'may', 's3:PutObject', nars, part],
    ['uploader', 'may', 's3:AbortMultipartUpload', nars],
    ['uploader', 'may', 's3:ListMultipartUploadParts', nars],
    ['uploader', 'may', 's3:GetObject', at(staging, `receipts/${upload}/x.published.json`)],
    ['uploader', 'may', 's3:ListBucket', staging, { 's3:prefix': `${prefix}receipts/${upload}/` }],
    ['uploader', 'may', 's3:GetObject', at(pub, 'abc.narinfo')],
    ['uploader', 'may not', 's3:PutObject', nars, replace],
    ['uploader', 'may not', 's3:PutObject', nars],
    // The publisher could not read such objects, or they would cost more.
    ...[
      { 's3:x-amz-storage-class': 'DEEP_ARCHIVE' },
      { 's3:x-amz-server-side-encryption-customer-algorithm': 'AES256' },
      { 's3:x-amz-server-side-encryption': 'aws:kms' },
    ].flatMap((header): Row[] => [
      ['uploader', 'may not', 's3:PutObject', nars, { ...create, ...header }],
      ['uploader', 'may not', 's3:PutObject', nars, { ...part, ...header }],
    ]),
    ['uploader', 'may not', 's3:GetObject', nars],
    ['uploader', 'may not', 's3:DeleteObject', nars],
    ['uploader', 'may not', 's3:ListBucket', staging],
    ['uploader', 'may not', 's3:ListBucket', staging, { 's3:prefix': `${prefix}staging/` }],
    ['uploader', 'may not', 's3:ListBucket', staging, { 's3:prefix': `${prefix}receipts/` }],
    ['uploader', 'may not', 's3:PutObject', at(staging, 'receipts/x'), create],
    ['uploader', 'may not', 's3:PutObject', at(staging, 'x'), create],
    ['uploader', 'may not', 's3:ListBucket', pub],
    ...[...published, ...documents].map((name): Row => [
      'uploader',
      'may not',
      's3:PutObject',
      at(pub, name),
      create,
    ]),
    // Nothing at all in the private bucket.
    ...[...records.map((name) => `${name}/x`), 'staging/x', 'niche.signing.json'].flatMap(
      (name): Row[] => [
        ['uploader', 'may not', 's3:PutObject', at(priv, name), create],
        ['uploader', 'may not', 's3:GetObject', at(priv, name)],
        ['uploader', 'may not', 's3:DeleteObject', at(priv, name)],
      ],
    ),
    ['uploader', 'may not', 's3:ListBucket', priv],
    ['uploader', 'may not', 's3:ListBucket', priv, { 's3:prefix': `${prefix}receipts/${upload}/` }],
    ['uploader', 'may not', 'kms:Sign', signing, asNix],
    ['uploader', 'may not', 'sqs:SendMessage', queue],
    ['uploader', 'may not', 'sqs:SendMessage', withdrawals],

    ['auditor', 'may', 's3:GetObject', at(priv, 'audit/2026/x.jsonl')],
    ['auditor', 'may', 's3:ListBucket', priv, { 's3:prefix': `${prefix}audit/2026/` }],
    ['auditor', 'may', 's3:GetObject', at(priv, 'blocked/abc')],
    ['auditor', 'may', 's3:GetObject', at(pub, 'abc.narinfo')],
    ['auditor', 'may', 'kms:GetPublicKey', signing],
    ['auditor', 'may', 'cloudtrail:LookupEvents', '*'],
    ['auditor', 'may not', 's3:PutObject', at(priv, 'audit/2026/x.jsonl'), create],
    ['auditor', 'may not', 's3:DeleteObject', at(priv, 'audit/2026/x.jsonl')],
    ['auditor', 'may not', 's3:GetObject', at(priv, 'niche.signing.json')],
    ['auditor', 'may not', 's3:GetObject', nars],
    ['auditor', 'may not', 'kms:Sign', signing, asNix],

    ...documents.map((name): Row => ['administrator', 'may', 's3:PutObject', at(pub, name)]),
    ['administrator', 'may', 's3:DeleteObject', at(pub, 'abc.narinfo')],
    ['administrator', 'may', 's3:DeleteObjectVersion', at(pub, 'nar/abc.nar.zst')],
    ['administrator', 'may', 's3:PutObject', at(priv, 'blocked/abc'), create],
    ['administrator', 'may', 's3:DeleteObject', at(priv, 'blocked/abc')],
    ['administrator', 'may', 's3:PutObject', at(priv, 'niche.signing.json')],
    ['administrator', 'may not', 's3:PutObject', at(priv, 'pending/x'), create],
    ['administrator', 'may not', 's3:PutObject', nars, create],
    ['administrator', 'may not', 's3:PutObject', at(priv, 'audit/2026/x.jsonl'), replace],
    ['administrator', 'may not', 's3:DeleteObject', at(priv, 'audit/2026/x.jsonl')],
    ['administrator', 'may not', 'kms:Sign', signing, asNix],
    ['administrator', 'may not', 's3:PutBucketPolicy', priv],
  ];
}

function roleOf(template: ResolvedTemplate, role: string): Readonly<Record<string, unknown>> {
  const name = `${role[0]?.toUpperCase()}${role.slice(1)}Role`;
  const found = template.resources.get(name)?.Properties;
  assert.ok(found, name);
  return found;
}

/** Returns the policies in the role, and the managed ones that it refers to by their names. */
function policiesOf(template: ResolvedTemplate, role: string): PolicyDocument[] {
  const { Policies, ManagedPolicyArns = [] } = roleOf(template, role) as {
    Policies: readonly { PolicyDocument: PolicyDocument }[];
    ManagedPolicyArns?: readonly string[];
  };
  const managed = ManagedPolicyArns.map(
    (name) => template.resources.get(name)?.Properties['PolicyDocument'] as PolicyDocument,
  );
  return [...Policies.map(({ PolicyDocument }) => PolicyDocument), ...managed];
}

function trustOf(template: ResolvedTemplate, name: string): readonly Statement[] {
  const { AssumeRolePolicyDocument } = template.resources.get(name)!.Properties as {
    AssumeRolePolicyDocument: PolicyDocument;
  };
  return AssumeRolePolicyDocument.Statement;
}

/** Returns the policies of the bucket or key of `resource`. For a key, only its Deny statements. */
function resourcePolicies(template: ResolvedTemplate, resource: string): PolicyDocument[] {
  const bucket = /^arn:aws:s3:::([^/]+)/.exec(resource)?.[1];
  const all = [...template.resources.values()];
  if (bucket !== undefined) {
    return all
      .filter(
        ({ Type, Properties }) =>
          Type === 'AWS::S3::BucketPolicy' && Properties['Bucket'] === bucket,
      )
      .map(({ Properties }) => Properties['PolicyDocument'] as PolicyDocument);
  }
  if (!resource.startsWith('arn:aws:kms:')) return [];
  return all
    .filter(({ Type }) => Type === 'AWS::KMS::Key')
    .map(({ Properties }) => Properties['KeyPolicy'] as PolicyDocument)
    .map(({ Statement }) => ({ Statement: Statement.filter(({ Effect }) => Effect === 'Deny') }));
}
