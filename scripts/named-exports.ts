import type { Metafile, Plugin } from 'esbuild';

/**
 * CommonJS packages that are imported dynamically, also by other packages, with the names that are
 * used. In a bundle of several files such an import has no exports but `default`.
 */
const namesUsed: Readonly<Record<string, readonly string[]>> = {
  'google-auth-library': ['GoogleAuth', 'JWT'],
  'https-proxy-agent': ['HttpsProxyAgent'],
};

/** Gives the dynamic import of a CommonJS package the exports that it has in Node. */
export const namedExports: Plugin = {
  name: 'named-exports',
  setup(build) {
    const filter = new RegExp(`^(?:${Object.keys(namesUsed).join('|')})$`);
    build.onResolve({ filter }, ({ kind, path, resolveDir }) =>
      kind === 'dynamic-import' ? { path, namespace: 'named', pluginData: resolveDir } : null,
    );
    build.onLoad({ filter: /./, namespace: 'named' }, ({ path, pluginData }) => ({
      contents: `export { ${namesUsed[path]?.join(', ') ?? ''} } from '${path}';`,
      resolveDir: pluginData as string,
    }));
  },
};

/** @throws Error when a CommonJS module is imported dynamically without its named exports */
export function assertNamedExports({ inputs, outputs }: Metafile): void {
  for (const { entryPoint } of Object.values(outputs)) {
    if (entryPoint !== undefined && inputs[entryPoint]?.format === 'cjs') {
      throw new Error(`a dynamic import of ${entryPoint} has no named exports: see namedExports`);
    }
  }
}
