import { existsSync } from 'node:fs';
import { cp, readFile, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';

import { Argument } from 'commander';
import type { Command } from 'commander';

import { NicheError, messageOf, quote } from '../../core/errors.ts';
import { makeFolders } from '../../core/util/folders.ts';
import type { Context } from '../process/context.ts';
import { addExamples } from '../ui/help.ts';

/** The deployment files of a cloud, with the same paths in this package and in the user's repository. */
interface Infrastructure {
  /** The file with the user's settings, which is never replaced. */
  readonly settings: string;
  /** The folder that each release replaces. */
  readonly folder: string;
  /** A file that `npm run build` creates; absent from a fresh checkout. */
  readonly built: string;
  readonly next: string;
}

const clouds: Readonly<Record<string, Infrastructure>> = {
  aws: {
    settings: 'serverless.yml',
    folder: 'infra/aws',
    built: 'infra/aws/functions/publish.mjs',
    next: 'edit params in serverless.yml, then run: npx osls deploy',
  },
  azure: {
    settings: 'infra/azure.bicepparam',
    folder: 'infra/azure',
    built: 'infra/azure/function/main.cjs',
    next: 'edit infra/azure.bicepparam, then run: az deployment group create --resource-group GROUP --parameters infra/azure.bicepparam',
  },
  google: {
    settings: 'infra/google.tf',
    folder: 'infra/google',
    built: 'infra/google/function/main.cjs',
    next: 'edit infra/google.tf, then run: terraform -chdir=infra init && terraform -chdir=infra apply',
  },
};

export function addInfra(program: Command, context: Context): void {
  const command = program
    .command('infra')
    .summary('generate deployment files for a cloud')
    .description(
      'Generates the files that deploy the cloud functions of a cache, for you to commit to your own ' +
        'repository. A newer release replaces all files except your settings; then deploy again.',
    )
    .addArgument(new Argument('<cloud>', 'aws, azure or google').choices(Object.keys(clouds)))
    .argument('<dir>', 'target folder, created if missing')
    .option('--json', 'print the result as JSON', false)
    .action(async (cloud: string, dir: string, { json }: { json: boolean }) => {
      const infrastructure = clouds[cloud];
      if (infrastructure)
        await writeDeployment(infrastructure, path.resolve(context.cwd, dir), json, context);
    });
  addExamples(command, 'niche infra aws ./cache', 'niche infra google ./cache');
}

async function writeDeployment(
  { settings, folder, built, next }: Infrastructure,
  target: string,
  json: boolean,
  context: Context,
): Promise<void> {
  const source = packageFolder();
  if (!existsSync(path.join(source, built))) {
    throw new NicheError(
      'not-found',
      `cannot find the bundled functions: ${quote(built)} is missing`,
      {
        hint: 'run npm run functions in the checkout',
      },
    );
  }
  try {
    makeFolders(target);
    // Files of an earlier release that this one does not have must not be deployed.
    await rm(path.join(target, folder), { recursive: true, force: true });
    await cp(path.join(source, folder), path.join(target, folder), { recursive: true });
    const kept = await keepSettings(path.join(source, settings), path.join(target, settings));
    const files = await filesBelow(path.join(target, folder));
    print({ target, files: files + 1, kept, settings, next }, json, context);
  } catch (cause) {
    throw new NicheError(
      'storage-denied',
      `cannot write to ${quote(target)}: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/** Returns whether it kept the user's settings. Those of the release then go to a file `.new`. */
async function keepSettings(source: string, target: string): Promise<boolean> {
  const isKept = existsSync(target) && !(await readFile(target)).equals(await readFile(source));
  await cp(source, isKept ? `${target}.new` : target);
  return isKept;
}

async function filesBelow(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true });
  const stats = await Promise.all(names.map((name) => stat(path.join(folder, name))));
  return stats.filter((each) => each.isFile()).length;
}

function print(
  result: { target: string; files: number; kept: boolean; settings: string; next: string },
  json: boolean,
  { stdout }: Context,
): void {
  const { target, files, kept, settings, next } = result;
  if (json) {
    stdout.write(`${JSON.stringify({ directory: target, files, keptSettings: kept })}\n`);
    return;
  }
  stdout.write(`${files} files in ${target}\n`);
  if (kept) {
    stdout.write(`kept your ${settings}; compare it with ${settings}.new of this release\n`);
  }
  stdout.write(`Next: ${next}\n`);
}

/** Returns the root of this package, both for the sources and for the bundle. */
function packageFolder(): string {
  let folder = import.meta.dirname;
  while (!existsSync(path.join(folder, 'serverless.yml')) && folder !== path.dirname(folder)) {
    folder = path.dirname(folder);
  }
  return folder;
}
