/** What is claimed of a store path, in the words of `nix path-info --json`. */
export interface PathInfo {
  /** The full store path. */
  readonly path: string;
  /** Of the uncompressed NAR, canonical: `sha256:` and 52 characters of Nix's base32. */
  readonly narHash: string;
  /** Of the uncompressed NAR, in bytes. */
  readonly narSize: number;
  /** Full store paths, sorted by bytes, each once. */
  readonly references: readonly string[];
  /** The full store path of the derivation that built it. */
  readonly deriver: string | null;
  /** The content address, such as `fixed:r:sha256:…`, of a content-addressed path. */
  readonly ca: string | null;
  /** Each `<key name>:<base64>`. */
  readonly signatures: readonly string[];
}
