import { join } from 'node:path';
import { convertFiles } from '@cdktn/hcl2json';

/** One member's role in one bucket, under a condition. */
export interface Binding {
  readonly bucket: string;
  readonly role: string;
  readonly member: string;
  readonly condition?: string | undefined;
}

/** A request, as IAM evaluates it. */
export interface GoogleIamRequest {
  readonly permission: string;
  readonly bucket: string;
  /** Undefined for a request on the bucket itself. */
  readonly object?: string | undefined;
  /** The prefix of a LIST. */
  readonly listPrefix?: string | undefined;
}

/**
 * The permissions of roles, as far as niche uses them.
 *
 * @see https://cloud.google.com/storage/docs/access-control/iam-roles
 */
const permissionsOf: Readonly<Record<string, readonly string[]>> = {
  'roles/storage.objectCreator': ['objects.create'],
  'roles/storage.objectViewer': ['objects.get', 'objects.list'],
  'roles/storage.objectUser': ['objects.create', 'objects.delete', 'objects.get', 'objects.list'],
  'roles/storage.legacyObjectReader': ['objects.get'],
  'roles/storage.legacyBucketReader': ['buckets.get', 'objects.list'],
  'roles/storage.legacyBucketWriter': [
    'buckets.get',
    'objects.create',
    'objects.delete',
    'objects.list',
  ],
};

/** Whether one of `bindings` allows `member` the request. */
export function isAllowedByGoogle(
  request: GoogleIamRequest,
  member: string,
  bindings: readonly Binding[],
): boolean {
  return bindings.some(
    ({ bucket, role, member: bound, condition }) =>
      bucket === request.bucket &&
      (bound === member || bound === 'allUsers') &&
      (permissionsOf[role] ?? unknown(role)).includes(request.permission) &&
      (condition === undefined || holds(condition, request)),
  );
}

/** Evaluates the few expressions of Common Expression Language that the module has. */
function holds(condition: string, { bucket, object, listPrefix = '' }: GoogleIamRequest): boolean {
  const name = `projects/_/buckets/${bucket}${object === undefined ? '' : `/objects/${object}`}`;
  return condition.split(' || ').some((term) => {
    const [, value, operator, expected = ''] =
      /^(resource\.name|api\.getAttribute\("storage\.googleapis\.com\/objectListPrefix", ""\))(\.startsWith\(|\.endsWith\(| == )"([^"]*)"\)?$/.exec(
        term,
      ) ?? unknown(term);
    const actual = value === 'resource.name' ? name : listPrefix;
    if (operator === ' == ') return actual === expected;
    return operator === '.endsWith(' ? actual.endsWith(expected) : actual.startsWith(expected);
  });
}

function unknown(what: string): never {
  throw new Error(`not known to this evaluation of IAM: ${what}`);
}

type Block = Readonly<Record<string, unknown>>;

interface Module {
  readonly resource: Readonly<Record<string, Readonly<Record<string, readonly Block[]>>>>;
  readonly locals: readonly Block[];
}

/**
 * Reads the rights in buckets that the Terraform module grants. The members of lists, such as
 * `var.auditors`, are called `auditors`, and service accounts have their names in the module.
 *
 * @param values of `local.public_bucket`, `var.prefix` and others that the module computes
 */
export async function readBindings(values: Readonly<Record<string, string>>): Promise<Binding[]> {
  const folder = join(import.meta.dirname, '../../../infra/google');
  const module = (await convertFiles(folder)) as unknown as Module;
  const locals = Object.assign({}, ...module.locals) as Readonly<Record<string, unknown>>;

  /** Replaces references to variables and locals. */
  function resolve(text: string): string {
    return text.replaceAll(
      /\$\{((?:var|local)\.(\w+))\}/g,
      (_, reference: string, name: string) => {
        const value = values[reference] ?? locals[name];
        return typeof value === 'string' ? resolve(value) : unknown(reference);
      },
    );
  }

  function membersOf({ member, for_each: each }: Block): string[] {
    if (member !== '${each.value}') return accountsIn(String(member));
    if (each === '${local.functions}') return accountsIn(JSON.stringify(locals['functions']));
    return [...String(each).matchAll(/var\.(\w+)/g)].map(([, name = '']) => name);
  }

  return Object.values(module.resource['google_storage_bucket_iam_member'] ?? {})
    .flat()
    .flatMap((block) => {
      const [, root] = /google_storage_bucket\.(\w+)\.name/.exec(String(block['bucket'])) ?? [];
      const bucket = values[`local.${root ?? ''}_bucket`];
      if (bucket === undefined) return [];
      const [condition] = (block['condition'] ?? []) as readonly Block[];
      return membersOf(block).map((member) => ({
        bucket,
        role: String(block['role']),
        member,
        condition: condition && resolve(String(condition['expression'])),
      }));
    });
}

function accountsIn(text: string): string[] {
  return [...text.matchAll(/google_service_account\.(\w+)\.member/g)].map(([, name = '']) => name);
}
