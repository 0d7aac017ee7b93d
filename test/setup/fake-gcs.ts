import type { GoTool } from './go.ts';

/** Google Cloud Storage in memory. Took 80 s to 5 minutes on two busy cores, 110 s of them computing. */
export const fakeGcs: GoTool = {
  name: 'fake-gcs-server',
  packages: ['github.com/fsouza/fake-gcs-server'],
  version: 'v1.56.1',
};
