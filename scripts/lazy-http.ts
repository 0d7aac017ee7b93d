import type { Plugin } from 'esbuild';

/**
 * Takes `node:http` by `getBuiltinModule`. To import it, Node reads each of its exports, one of which is
 * undici's `WebSocket`, and for that it compiles all of undici: 20 ms of every start.
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
