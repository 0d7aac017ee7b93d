# As much of nixpkgs as niche's package uses, so that its evaluation can be tested without nixpkgs.
# What it cannot show is that the package builds.
{
  system ? builtins.currentSystem,
  overlays ? [ ],
}:
let
  lib = import ./lib.nix;

  derive =
    attributes:
    derivation (
      {
        name = "${attributes.pname or "stub"}-${attributes.version or "0"}";
        inherit system;
        builder = "/bin/sh";
      }
      // removeAttrs attributes [ "meta" ]
    )
    // {
      inherit (attributes) meta;
    };
  stub =
    name:
    derive {
      inherit name;
      meta.mainProgram = name;
    };

  packages = {
    inherit lib;
    callPackage =
      file: overrides:
      let
        package = import file;
      in
      package (builtins.intersectAttrs (builtins.functionArgs package) final // overrides);
    fetchurl =
      { url, hash }:
      derive {
        name = baseNameOf url;
        inherit url;
        outputHash = hash;
        outputHashMode = "flat";
        outputHashAlgo = null;
        meta = { };
      };
    makeWrapper = stub "make-wrapper";
    mkShell =
      { packages }:
      derive {
        name = "shell";
        inherit packages;
        meta = { };
      };
    nodejs_24 = stub "node";
    stdenv = {
      hostPlatform.system = system;
      mkDerivation = derive;
    };
  };
  final = builtins.foldl' (previous: overlay: previous // overlay final previous) packages overlays;
in
final
