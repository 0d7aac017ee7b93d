# niche, bundled like the npm package: `pkgs.callPackage ./package.nix { }`.
# npm fetches the packages that go into the bundle and checks them against package-lock.json. So there is
# no hash to maintain here.
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
  # The packages in the bundle. Their dependencies come from the lockfile.
  roots = [
    "@aws-sdk/client-kms"
    "@aws-sdk/client-s3"
    "@aws-sdk/credential-providers"
    "@azure/identity"
    "@azure/storage-blob"
    "@esbuild/${esbuildPlatforms.${stdenv.hostPlatform.system}}"
    "age-encryption"
    "commander"
    "esbuild"
    "google-auth-library"
    "hash-wasm"
    "tweetnacl"
    "xz-decompress"
    "zod"
  ];
  parentOf =
    path:
    let
      match = builtins.match "(.*)/node_modules/.*" path;
    in
    if match == null then "" else builtins.head match;
  # Resolves as Node does: in the package's own node_modules, then in the enclosing ones.
  find =
    from: name:
    let
      path = if from == "" then "node_modules/${name}" else "${from}/node_modules/${name}";
    in
    if locked ? ${path} then
      [ { key = path; } ]
    else if from == "" then
      [ ]
    else
      find (parentOf from) name;
  modules = map ({ key }: key) (
    builtins.genericClosure {
      startSet = builtins.concatMap (find "") roots;
      operator =
        { key }:
        let
          entry = locked.${key};
          needed = (entry.dependencies or { }) // (entry.peerDependencies or { });
        in
        builtins.concatMap (find key) (builtins.attrNames needed);
    }
  );
  fetchModule =
    path:
    let
      name = builtins.head (builtins.match ".*node_modules/(.*)" path);
      inherit (locked.${path}) version integrity;
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
      ./functions
      ./package.json
      ./scripts/build.ts
      ./scripts/licenses.ts
      ./scripts/launcher.cjs
    ];
  };

  nativeBuildInputs = [
    makeWrapper
    nodejs_24
  ];

  configurePhase = ''
    runHook preConfigure
    ${lib.concatMapStrings (path: ''
      mkdir -p ${path}
      tar -xzf ${fetchModule path} --strip-components=1 -C ${path}
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
