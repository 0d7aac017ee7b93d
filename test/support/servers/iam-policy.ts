/** A request, as IAM evaluates it. */
export interface IamRequest {
  readonly action: string;
  readonly resource: string;
  /** Condition keys of the request, such as `s3:prefix`. */
  readonly context?: Readonly<Record<string, string>>;
}

export interface Statement {
  readonly Effect: 'Allow' | 'Deny';
  readonly Action: string | readonly string[];
  readonly Resource?: string | readonly string[];
  readonly Principal?: unknown;
  readonly Condition?: Readonly<
    Record<string, Readonly<Record<string, string | readonly string[]>>>
  >;
}

export interface PolicyDocument {
  readonly Statement: readonly Statement[];
}

/**
 * Evaluates a request within one account: any matching Deny refuses it, else a matching Allow allows
 * it.
 *
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
 */
export function isAllowed(request: IamRequest, policies: readonly PolicyDocument[]): boolean {
  const matching = policies
    .flatMap(({ Statement }) => Statement)
    .filter((statement) => matches(statement, request));
  return (
    matching.some(({ Effect }) => Effect === 'Allow') &&
    !matching.some(({ Effect }) => Effect === 'Deny')
  );
}

function matches(statement: Statement, { action, resource, context = {} }: IamRequest): boolean {
  const { Action, Resource = '*', Condition = {} } = statement;
  return (
    list(Action).some((pattern) => like(pattern.toLowerCase(), action.toLowerCase())) &&
    list(Resource).some((pattern) => like(pattern, resource)) &&
    Object.entries(Condition).every(([operator, keys]) =>
      Object.entries(keys).every(([key, expected]) =>
        holds(operator, context[key], list(expected)),
      ),
    )
  );
}

function holds(operator: string, actual: string | undefined, expected: readonly string[]): boolean {
  if (operator === 'Null')
    return expected.some((each) => (each === 'true') === (actual === undefined));
  const isNegated = operator.includes('Not');
  // A key that the request lacks satisfies only negated conditions.
  if (actual === undefined) return isNegated;
  switch (operator) {
    case 'StringEquals':
    case 'Bool':
      return expected.includes(actual);
    case 'StringLike':
    case 'ArnEquals':
    case 'ArnLike':
      return expected.some((pattern) => like(pattern, actual));
    case 'StringNotEquals':
      return !expected.includes(actual);
    case 'ArnNotEquals':
      return !expected.some((pattern) => like(pattern, actual));
    default:
      throw new Error(`a policy uses the operator ${operator}, which this test does not know`);
  }
}

/** `*` matches any text, `?` any single character, including slashes. */
function like(pattern: string, text: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`, 's').test(text);
}

function list(value: string | readonly string[]): readonly string[] {
  return typeof value === 'string' ? [value] : value;
}
