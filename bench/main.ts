import { benchHook } from './hook.ts';
import { benchLargePath } from './large-path.ts';
import { runBenches } from './report.ts';
import { benchSmallPaths } from './small-paths.ts';
import { benchThroughput } from './throughput.ts';

await runBenches([benchThroughput, benchLargePath, benchSmallPaths, benchHook], {
  quick: process.argv.includes('--quick'),
});
