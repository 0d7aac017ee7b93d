import { benchEvaluation } from './evaluation.ts';
import { benchHook } from './hook.ts';
import { benchHostile } from './hostile.ts';
import { benchLargePath } from './large-path.ts';
import { runBenches } from './report.ts';
import { benchSmallPaths } from './small-paths.ts';
import { benchThroughput } from './throughput.ts';

const benches = {
  throughput: benchThroughput,
  hostile: benchHostile,
  'large-path': benchLargePath,
  'small-paths': benchSmallPaths,
  hook: benchHook,
  evaluation: benchEvaluation,
};

/** Names of benchmarks; all without any. */
const names = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const unknown = names.find((name) => !(name in benches));
if (unknown !== undefined)
  throw new Error(`no benchmark ${unknown}: ${Object.keys(benches).join()}`);

await runBenches(
  Object.entries(benches)
    .filter(([name]) => names.length === 0 || names.includes(name))
    .map(([, bench]) => bench),
  { quick: process.argv.includes('--quick') },
);
