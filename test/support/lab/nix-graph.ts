import { createHash } from 'node:crypto';

/** One derivation of a graph; its builder is the host's /bin/sh, so no nixpkgs is needed. */
export interface GraphPart {
  /** The attribute and the derivation's name. */
  readonly name: string;
  /** Parts that its output refers to. */
  readonly deps?: readonly string[];
  /** @default ['out'] */
  readonly outputs?: readonly string[];
  /** Makes the builder print an error and exit with 1. */
  readonly fails?: boolean;
  /** How long the build takes, in seconds. */
  readonly sleepSeconds?: number;
  /** Adds a file `big` of this size to the first output. */
  readonly bytes?: number;
  /** Makes it a flat fixed-output derivation of these contents; `deps` are then ignored. */
  readonly fixedOutput?: string;
  /** A part that must be built before this one can be evaluated (import from derivation). */
  readonly importsFrom?: string;
  /** A content-addressed derivation; requires the experimental feature `ca-derivations`. */
  readonly contentAddressed?: boolean;
  /** Shell to run at the end, with `$out` and the host's usual commands. */
  readonly script?: string;
}

/** This machine's name in Nix, such as `x86_64-linux`. */
export const nixSystem = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux`;

/**
 * Returns a `default.nix` whose attributes are the parts. The first output of each is a folder with a
 * file `name` that contains its name and the paths of its deps.
 *
 * @param salt Graphs of different salts share no path.
 */
export function graph(parts: readonly GraphPart[], salt = ''): string {
  const attributes = parts.map((part) => `  ${nixString(part.name)} = ${derivation(part, salt)};`);
  return [
    `{ system ? ${nixString(nixSystem)} }:`,
    'let parts = {',
    ...attributes,
    '}; in parts',
    '',
  ].join('\n');
}

/** Returns a `flake.nix` without inputs whose packages are those of the `default.nix` next to it. */
export function graphFlake(): string {
  return `{
  outputs = { self }: {
    packages.${nixString(nixSystem)} = import ./default.nix { system = ${nixString(nixSystem)}; };
  };
}
`;
}

/** Returns `text` as a string literal of the Nix language. */
function nixString(text: string): string {
  return `"${text.replace(/[\\"$]/g, '\\$&').replaceAll('\n', '\\n')}"`;
}

function derivation(part: GraphPart, salt: string): string {
  const outputs = part.outputs ?? ['out'];
  const attributes: Record<string, string> = {
    name: nixString(part.name),
    system: 'system',
    builder: nixString('/bin/sh'),
    PATH: nixString('/usr/bin:/bin'),
    args: `[ "-euc" ${nixString(script(part, outputs))} ]`,
    salt: nixString(salt),
  };
  if (part.fixedOutput !== undefined) {
    attributes['contents'] = nixString(part.fixedOutput);
    attributes['outputHashMode'] = nixString('flat');
    attributes['outputHashAlgo'] = nixString('sha256');
    attributes['outputHash'] = nixString(
      createHash('sha256').update(part.fixedOutput).digest('hex'),
    );
  } else {
    attributes['outputs'] = list(outputs.map(nixString));
    attributes['deps'] = list((part.deps ?? []).map((dep) => `parts.${nixString(dep)}`));
  }
  if (part.importsFrom !== undefined) {
    const imported = `parts.${nixString(part.importsFrom)}`;
    attributes['imported'] = `builtins.readFile "\${${imported}}/name"`;
  }
  if (part.contentAddressed) {
    attributes['__contentAddressed'] = 'true';
    attributes['outputHashMode'] = nixString('recursive');
    attributes['outputHashAlgo'] = nixString('sha256');
  }
  const body = Object.entries(attributes).map(([name, value]) => `${name} = ${value};`);
  return `derivation { ${body.join(' ')} }`;
}

function script(part: GraphPart, outputs: readonly string[]): string {
  const lines = [`echo building ${part.name}`];
  if (part.sleepSeconds !== undefined) {
    lines.push(`sleep ${part.sleepSeconds}`);
  }
  if (part.fails) {
    lines.push(`echo ${part.name} fails on purpose >&2`, 'exit 1');
  }
  if (part.fixedOutput !== undefined) {
    lines.push('printf %s "$contents" > "$out"');
  } else {
    for (const output of outputs) {
      lines.push(`mkdir -p "$${output}"`, `echo ${part.name} $deps > "$${output}/name"`);
    }
    if (part.bytes !== undefined) {
      lines.push(`yes ${part.name} | head -c ${part.bytes} > "$${outputs[0]!}/big"`);
    }
  }
  return [...lines, part.script ?? 'true'].join('\n');
}

function list(items: readonly string[]): string {
  return `[ ${items.join(' ')} ]`;
}
