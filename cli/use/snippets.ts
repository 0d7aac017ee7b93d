import { confLines } from './nix-conf.ts';
import type { CacheEntry } from './nix-conf.ts';

/** Where a snippet is for. */
export const snippetKinds = ['nixos', 'flake', 'github', 'gitlab'] as const;
export type SnippetKind = (typeof snippetKinds)[number];

/** What to put where, as text to paste. */
export function snippetFor(kind: SnippetKind, entry: CacheEntry): string {
  const lines = confLines(entry);
  switch (kind) {
    case 'nixos':
      return `{
  nix.settings = {
${nixSettings(entry, '    ')}
  };
}
`;
    case 'flake':
      return `  nixConfig = {
${nixSettings(entry, '    ')}
  };
`;
    case 'github':
      return `      - name: Install Nix, with the cache ${entry.name}
        uses: cachix/install-nix-action@v31
        with:
          extra_nix_config: |
${indent(lines, '            ')}
`;
    case 'gitlab':
      return `build:
  image: nixos/nix
  variables:
    NIX_CONFIG: |
${indent(lines, '      ')}
  script:
    - nix-build
`;
  }
}

/** Where a snippet goes, for people. */
export function placeOf(kind: SnippetKind): string {
  switch (kind) {
    case 'nixos':
      return 'a module of your NixOS, nix-darwin or Home Manager configuration';
    case 'flake':
      return 'flake.nix, beside inputs and outputs; whoever builds is asked whether to accept it';
    case 'github':
      return 'a workflow, among the steps of a job';
    case 'gitlab':
      return '.gitlab-ci.yml';
  }
}

function nixSettings({ substituter, publicKeys }: CacheEntry, margin: string): string {
  return indent(
    [
      `extra-substituters = [ ${nixString(substituter)} ];`,
      `extra-trusted-public-keys = [ ${publicKeys.map(nixString).join(' ')} ];`,
    ],
    margin,
  );
}

function nixString(text: string): string {
  return `"${text.replace(/["\\]|\$(?=\{)/g, '\\$&')}"`;
}

function indent(lines: readonly string[], margin: string): string {
  return lines.map((line) => `${margin}${line}`).join('\n');
}
