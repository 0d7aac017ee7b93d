import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import {
  CloudFormationClient,
  CreateStackCommand,
  DeleteStackCommand,
  DescribeStackResourceCommand,
  DescribeStackEventsCommand,
  DescribeStacksCommand,
  UpdateStackCommand,
} from '@aws-sdk/client-cloudformation';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import type { Ministack } from './ministack.ts';

const exec = promisify(execFile);
const checkout = join(import.meta.dirname, '../../..');

/** The output of `osls package`. */
export interface PackagedDeployment {
  readonly stage: string;
  readonly name: string;
  /** The folder with the templates and the artifacts. */
  readonly folder: string;
  /** The template of the whole stack. */
  readonly template: Template;
}

export interface Template {
  readonly Parameters?: Readonly<
    Record<string, { readonly Default?: string; readonly Type: string }>
  >;
  readonly Conditions?: Readonly<Record<string, unknown>>;
  readonly Resources: Readonly<Record<string, TemplateResource>>;
  readonly Outputs?: Readonly<
    Record<string, { readonly Condition?: string; readonly Value: unknown }>
  >;
}

export interface TemplateResource {
  readonly Type: string;
  readonly Condition?: string;
  readonly DeletionPolicy?: string;
  readonly Properties: Readonly<Record<string, unknown>>;
}

/** Bundles the functions, once per process. */
const services = new Map<string, Promise<string>>();

/**
 * Returns a folder with the deployment files, created once for each `folder`. osls writes its working
 * files next to serverless.yml, so that tests must not share a folder.
 */
function serviceIn(folder: string): Promise<string> {
  const known = services.get(folder);
  if (known) return known;
  const made = (async () => {
    const service = join(folder, 'service');
    await exec(process.execPath, ['scripts/functions.ts', `--out=${service}`, 'aws'], {
      cwd: checkout,
    });
    await cp(join(checkout, 'serverless.yml'), join(service, 'serverless.yml'));
    await cp(join(checkout, 'infra/aws'), join(service, 'infra/aws'), {
      recursive: true,
      filter: (file) => !file.startsWith(join(checkout, 'infra/aws/functions')),
    });
    return service;
  })();
  services.set(folder, made);
  return made;
}

/** Packages serverless.yml offline, with these parameters instead of its defaults. */
export async function packageDeployment(
  folder: string,
  stage: string,
  parameters: Readonly<Record<string, string | number>> = {},
): Promise<PackagedDeployment> {
  const service = await serviceIn(folder);
  const target = join(folder, `package-${stage}`);
  const home = join(folder, 'home');
  await mkdir(home, { recursive: true });
  const flags = Object.entries(parameters).flatMap(([key, value]) => [
    '--param',
    `${key}=${value}`,
  ]);
  await exec(
    process.execPath,
    [
      join(checkout, 'node_modules/osls/bin/serverless.js'),
      'package',
      '--package',
      target,
      '--stage',
      stage,
      ...flags,
    ],
    // A separate home folder, without the AWS configuration of this machine.
    { cwd: service, env: { PATH: process.env['PATH'], HOME: home, SLS_TELEMETRY_DISABLED: '1' } },
  );
  const text = await readFile(join(target, 'cloudformation-template-update-stack.json'), 'utf8');
  const name = `${parameters['name'] ?? 'niche'}-${stage}`;
  return { stage, name, folder: target, template: JSON.parse(text) as Template };
}

/** A deployed stack. */
export interface Stack {
  readonly name: string;
  readonly outputs: Readonly<Record<string, string>>;
  /** Deploys another package to the stack, and returns whether anything changed. */
  update(packaged: PackagedDeployment): Promise<boolean>;
  remove(): Promise<void>;
}

/**
 * Deploys a package as `osls deploy` does: creates a stack with the bucket for artifacts, uploads them,
 * and updates the stack with everything else.
 */
export async function deploy(aws: Ministack, packaged: PackagedDeployment): Promise<Stack> {
  const { endpoint, region, credentials } = aws;
  const client = new CloudFormationClient({ endpoint, region, credentials });
  const s3 = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  const { name } = packaged;
  const Capabilities = ['CAPABILITY_NAMED_IAM' as const];

  async function settled(): Promise<Record<string, string>> {
    for (;;) {
      const { Stacks } = await client.send(new DescribeStacksCommand({ StackName: name }));
      const { StackStatus = '', Outputs = [] } = Stacks?.[0] ?? {};
      if (/^(?:CREATE|UPDATE)_COMPLETE$/.test(StackStatus)) {
        return Object.fromEntries(
          Outputs.map(({ OutputKey = '', OutputValue = '' }) => [OutputKey, OutputValue]),
        );
      }
      if (!StackStatus.endsWith('_IN_PROGRESS')) {
        const { StackEvents = [] } = await client.send(
          new DescribeStackEventsCommand({ StackName: name }),
        );
        const reasons = StackEvents.filter((each) => each.ResourceStatusReason !== undefined).map(
          (each) => `${each.LogicalResourceId}: ${each.ResourceStatusReason}`,
        );
        throw new Error(`the stack ${name} is ${StackStatus}: ${reasons.join('\n')}`);
      }
      await sleep(100);
    }
  }

  async function upload({ folder, template }: PackagedDeployment): Promise<void> {
    const { StackResourceDetail } = await client.send(
      new DescribeStackResourceCommand({
        StackName: name,
        LogicalResourceId: 'ServerlessDeploymentBucket',
      }),
    );
    const codes = Object.values(template.Resources).flatMap(({ Type, Properties }) =>
      Type === 'AWS::Lambda::Function' ? [Properties['Code'] as { S3Key: string }] : [],
    );
    const artifacts = (await readdir(folder)).filter((file) => file.endsWith('.zip'));
    for (const artifact of artifacts) {
      await s3.send(
        new PutObjectCommand({
          Bucket: StackResourceDetail?.PhysicalResourceId,
          Key: codes.find(({ S3Key }) => S3Key.endsWith(`/${artifact}`))?.S3Key,
          Body: await readFile(join(folder, artifact)),
        }),
      );
    }
  }

  async function update(next: PackagedDeployment): Promise<boolean> {
    await upload(next);
    try {
      await client.send(
        new UpdateStackCommand({
          StackName: name,
          TemplateBody: JSON.stringify(next.template),
          Capabilities,
        }),
      );
    } catch (error) {
      if (String(error).includes('No updates are to be performed')) return false;
      throw error;
    }
    await settled();
    return true;
  }

  const file = join(packaged.folder, 'cloudformation-template-create-stack.json');
  await client.send(
    new CreateStackCommand({
      StackName: name,
      TemplateBody: await readFile(file, 'utf8'),
      Capabilities,
    }),
  );
  await settled();
  await update(packaged);
  return {
    name,
    outputs: await settled(),
    update,
    async remove() {
      await client.send(new DeleteStackCommand({ StackName: name }));
      for (;;) {
        const gone = await client.send(new DescribeStacksCommand({ StackName: name })).then(
          ({ Stacks }) => Stacks?.[0]?.StackStatus === 'DELETE_COMPLETE',
          () => true,
        );
        if (gone) return;
        await sleep(100);
      }
    },
  };
}
