/**
 * Writes the arguments that Terraform's Google provider takes, for the resources that infra/google
 * uses, from the declarations that CDK for Terraform generates of the provider's own schema.
 *
 * usage: node test/infra/extract-provider-schema.ts FOLDER RESOURCE… > test/fixtures/terraform/google.json
 * where FOLDER is the unpacked npm package @cdktf/provider-google.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BlockSchema } from './provider-schema.ts';

const [folder = '', ...resources] = process.argv.slice(2);

/** Returns each interface's members: the argument's name in HCL, whether it is optional, its type. */
function interfacesOf(
  text: string,
): Map<string, { name: string; optional: boolean; type: string }[]> {
  const interfaces = new Map<string, { name: string; optional: boolean; type: string }[]>();
  for (const [, name = '', body = ''] of text.matchAll(
    /export interface (\w+)(?: extends [\w.]+)? \{\n([\s\S]*?)\n\}/g,
  )) {
    const members = [
      ...body.matchAll(
        /\/docs\/(?:resources|data-sources)\/\w+#(\w+) [\s\S]*?readonly \w+(\??): ([^;]+);/g,
      ),
    ].map(([, argument = '', optional = '', type = '']) => ({
      name: argument,
      optional: optional === '?',
      type,
    }));
    interfaces.set(name, members);
  }
  return interfaces;
}

function schemaOf(resource: string): BlockSchema {
  const isData = resource.startsWith('data.');
  const file = resource
    .replace(/^data\./, '')
    .replace(/^google_/, '')
    .replaceAll('_', '-');
  const path = join(folder, 'lib', isData ? `data-google-${file}` : file, 'index.d.ts');
  if (!existsSync(path)) throw new Error(`${resource}: no ${path}`);
  const interfaces = interfacesOf(readFileSync(path, 'utf8'));
  const root = [...interfaces.keys()].find((name) => name.endsWith('Config') && isRoot(name, path));
  if (root === undefined) throw new Error(`${resource}: no configuration in ${path}`);

  const block = (name: string): BlockSchema =>
    Object.fromEntries(
      (interfaces.get(name) ?? []).map(({ name: argument, optional, type }) => {
        const inner = /\w+/.exec(type)?.[0] ?? '';
        return [argument, interfaces.has(inner) ? { optional, block: block(inner) } : { optional }];
      }),
    );
  return block(root);
}

function isRoot(name: string, path: string): boolean {
  return readFileSync(path, 'utf8').includes(`export interface ${name} extends cdktf.`);
}

console.log(
  JSON.stringify(
    Object.fromEntries(resources.sort().map((each) => [each, schemaOf(each)])),
    null,
    1,
  ),
);
