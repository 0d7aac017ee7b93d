import type { Plugin } from 'esbuild';

/**
 * Loads `node:http` with `getBuiltinModule`. An import reads each export, and reading `WebSocket` makes
 * Node compile all of undici: 20 ms of every start.
 */
export const lazyHttp: Plugin = {
  name: 'lazy-http',
  setup(build) {
    build.onResolve({ filter: /^(?:node:)?http$/ }, () => ({ path: 'http', namespace: 'lazy' }));
    build.onLoad({ filter: /./, namespace: 'lazy' }, () => ({
      contents: "module.exports = process.getBuiltinModule('node:http');",
    }));
  },
};
