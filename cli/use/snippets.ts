import { confLines } from './nix-conf.ts';
import type { CacheEntry } from './nix-conf.ts';

/** The systems that niche has a snippet for. */
export const snippetKinds = ['nixos', 'flake', 'github', 'gitlab'] as const;
export type SnippetKind = (typeof snippetKinds)[number];

/** Returns a snippet to paste. */
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

/** Describes where to paste a snippet. */
export function targetOf(kind: SnippetKind): string {
  switch (kind) {
    case 'nixos':
      return 'a module of your NixOS, nix-darwin or Home Manager configuration';
    case 'flake':
      return 'flake.nix, next to inputs and outputs; Nix asks each user to accept it';
    case 'github':
      return 'the steps of a job in a workflow';
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
