import type { Plugin } from 'esbuild';

const http = "process.getBuiltinModule('node:http')";
/** Without `WebSocket`, `CloseEvent` and `MessageEvent`, which are undici's. */
const names =
  'Agent, ClientRequest, IncomingMessage, Server, createServer, get, globalAgent, request';

/**
 * Loads `node:http` with `getBuiltinModule`. An import reads each export, and reading `WebSocket` makes
 * Node compile all of undici: 20 ms of every start.
 */
export const lazyHttp: Plugin = {
  name: 'lazy-http',
  setup(build) {
    build.onResolve({ filter: /^(?:node:)?http$/ }, ({ kind }) => ({
      // A dynamic import of a CommonJS module has no named exports in a bundle of several files.
      path: kind === 'dynamic-import' ? 'http.mjs' : 'http.cjs',
      namespace: 'lazy',
    }));
    build.onLoad({ filter: /\.cjs$/, namespace: 'lazy' }, () => ({
      contents: `module.exports = ${http};`,
    }));
    build.onLoad({ filter: /\.mjs$/, namespace: 'lazy' }, () => ({
      contents: `const http = ${http};\nexport default http;\nexport const { ${names} } = http;`,
    }));
  },
};
