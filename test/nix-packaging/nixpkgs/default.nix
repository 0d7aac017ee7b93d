# A stub of the parts of nixpkgs that niche's package uses, to test evaluation without nixpkgs.
# It cannot show that the package builds.
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
    cacert = stub "cacert";
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
