# niche, bundled as the npm package is: `pkgs.callPackage ./package.nix { }`.
# What the bundle is made from is fetched by npm, which knows its registry, and has to have the
# hashes of package-lock.json, so there is no hash here to keep up to date.
{
  lib,
  stdenv,
  cacert,
  makeWrapper,
  nodejs_24,
}:
let
  package = lib.importJSON ./package.json;
  locked = (lib.importJSON ./package-lock.json).packages;

  esbuildPlatforms = {
    x86_64-linux = "linux-x64";
    aarch64-linux = "linux-arm64";
    x86_64-darwin = "darwin-x64";
    aarch64-darwin = "darwin-arm64";
  };
  modules = [
    "@esbuild/${esbuildPlatforms.${stdenv.hostPlatform.system}}"
    "commander"
    "esbuild"
    "tweetnacl"
    "zod"
  ];
  fetchModule =
    name:
    let
      inherit (locked."node_modules/${name}") version integrity;
    in
    stdenv.mkDerivation {
      pname = "npm-${baseNameOf name}";
      inherit version;
      outputHash = integrity;
      outputHashMode = "flat";
      outputHashAlgo = null;
      nativeBuildInputs = [ nodejs_24 ];
      SSL_CERT_FILE = "${cacert}/etc/ssl/certs/ca-bundle.crt";
      dontUnpack = true;
      dontFixup = true;
      buildPhase = "HOME=$TMPDIR npm pack --ignore-scripts ${name}@${version}";
      installPhase = "mv *.tgz $out";
      meta = { };
    };
in
stdenv.mkDerivation {
  pname = package.name;
  inherit (package) version;

  src = lib.fileset.toSource {
    root = ./.;
    fileset = lib.fileset.unions [
      ./cli
      ./core
      ./package.json
      ./scripts/build.ts
      ./scripts/launcher.cjs
    ];
  };

  nativeBuildInputs = [
    makeWrapper
    nodejs_24
  ];

  configurePhase = ''
    runHook preConfigure
    ${lib.concatMapStrings (name: ''
      mkdir -p node_modules/${name}
      tar -xzf ${fetchModule name} --strip-components=1 -C node_modules/${name}
    '') modules}
    runHook postConfigure
  '';

  buildPhase = ''
    runHook preBuild
    node scripts/build.ts
    runHook postBuild
  '';

  installPhase = ''
    runHook preInstall
    mkdir -p $out/lib/niche
    cp -r dist/main.mjs dist/chunks dist/third-party-licenses.txt $out/lib/niche/
    makeWrapper ${lib.getExe nodejs_24} $out/bin/niche --add-flags $out/lib/niche/main.mjs
    runHook postInstall
  '';

  doInstallCheck = true;
  installCheckPhase = ''
    $out/bin/niche --version | grep -F ${package.version}
  '';

  meta = {
    inherit (package) description;
    license = lib.licenses.mit;
    mainProgram = "niche";
    platforms = lib.attrNames esbuildPlatforms;
  };
}
