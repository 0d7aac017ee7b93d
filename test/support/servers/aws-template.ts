import type { Template, TemplateResource } from './aws-deployment.ts';

/** The values of CloudFormation's pseudo parameters. */
const pseudo: Readonly<Record<string, string>> = {
  'AWS::AccountId': '123456789012',
  'AWS::Partition': 'aws',
  'AWS::Region': 'eu-central-1',
  'AWS::URLSuffix': 'amazonaws.com',
};

const noValue = Symbol('AWS::NoValue');

/** A template after CloudFormation resolved its conditions, references and functions. */
export interface ResolvedTemplate {
  readonly resources: ReadonlyMap<string, TemplateResource>;
  readonly outputs: ReadonlyMap<string, unknown>;
}

/** Resolves everything that is known before the deployment. An attribute becomes `<name>.<attribute>`. */
export function resolveTemplate(template: Template): ResolvedTemplate {
  const { Parameters = {}, Conditions = {}, Resources, Outputs = {} } = template;

  function ref(name: string): unknown {
    if (name === 'AWS::NoValue') return noValue;
    const parameter = Parameters[name];
    if (parameter) {
      const { Default = '', Type } = parameter;
      return Type === 'CommaDelimitedList' ? Default.split(',') : Default;
    }
    if (name in pseudo) return pseudo[name];
    if (name in Resources) return nameOf(name);
    throw new Error(`the template refers to ${name}, which it has not`);
  }

  function nameOf(name: string): string {
    const { Properties } = Resources[name]!;
    const given = ['BucketName', 'QueueName', 'RoleName'].find((key) => key in Properties);
    return given === undefined ? name : String(resolve(Properties[given]));
  }

  function attribute(name: string, key: string): string {
    const resource = Resources[name];
    if (!resource) throw new Error(`the template refers to ${name}, which it has not`);
    if (key !== 'Arn') return `${nameOf(name)}.${key}`;
    const [account, region] = [pseudo['AWS::AccountId'], pseudo['AWS::Region']];
    const arns: Readonly<Record<string, string>> = {
      'AWS::S3::Bucket': `arn:aws:s3:::${nameOf(name)}`,
      'AWS::SQS::Queue': `arn:aws:sqs:${region}:${account}:${nameOf(name)}`,
      'AWS::IAM::Role': `arn:aws:iam::${account}:role/${nameOf(name)}`,
      'AWS::KMS::Key': `arn:aws:kms:${region}:${account}:key/${name}`,
    };
    return arns[resource.Type] ?? `arn:aws:${name}`;
  }

  function substitute(text: string, more: Readonly<Record<string, unknown>>): string {
    return text.replace(/\$\{([^}]+)\}/g, (_, name: string) => {
      if (name in more) return String(resolve(more[name]));
      const [resource = '', key] = name.split('.');
      return String(key === undefined ? ref(name) : attribute(resource, key));
    });
  }

  const condition = (name: string): boolean => resolve(Conditions[name]) === true;

  const functions: Readonly<Record<string, (argument: never) => unknown>> = {
    Ref: ref,
    Condition: condition,
    'Fn::GetAtt': (argument: string | [string, string]) =>
      typeof argument === 'string'
        ? attribute(...(argument.split('.') as [string, string]))
        : attribute(...argument),
    'Fn::Sub': (argument: string | [string, Record<string, unknown>]) =>
      typeof argument === 'string' ? substitute(argument, {}) : substitute(...argument),
    'Fn::If': ([name, yes, no]: [string, unknown, unknown]) => resolve(condition(name) ? yes : no),
    'Fn::Join': ([separator, parts]: [string, unknown]) =>
      (resolve(parts) as string[]).join(separator),
    'Fn::Split': ([separator, text]: [string, unknown]) => String(resolve(text)).split(separator),
    'Fn::Select': ([index, parts]: [number, unknown]) => (resolve(parts) as unknown[])[index],
    'Fn::Equals': ([one, other]: [unknown, unknown]) => resolve(one) === resolve(other),
    'Fn::Not': ([argument]: [unknown]) => resolve(argument) !== true,
    'Fn::And': (all: unknown[]) => all.every((each) => resolve(each) === true),
    'Fn::Or': (all: unknown[]) => all.some((each) => resolve(each) === true),
  };

  function resolve(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(resolve).filter((each) => each !== noValue);
    if (typeof value !== 'object' || value === null) return value;
    const entries = Object.entries(value);
    const [first] = entries;
    const apply = first && entries.length === 1 ? functions[first[0]] : undefined;
    // In a policy, `Condition` is a block, not the name of a condition.
    if (apply && first && !(first[0] === 'Condition' && typeof first[1] !== 'string')) {
      return apply(first[1] as never);
    }
    return Object.fromEntries(
      entries.map(([key, each]) => [key, resolve(each)]).filter(([, each]) => each !== noValue),
    );
  }

  const kept = <T extends { readonly Condition?: string }>(all: Readonly<Record<string, T>>) =>
    Object.entries(all).filter(
      ([, { Condition }]) => Condition === undefined || condition(Condition),
    );
  return {
    resources: new Map(
      kept(Resources).map(([name, resource]) => [
        name,
        {
          ...resource,
          Properties: resolve(resource.Properties) as TemplateResource['Properties'],
        },
      ]),
    ),
    outputs: new Map(kept(Outputs).map(([name, { Value }]) => [name, resolve(Value)])),
  };
}
