{
  attrNames = builtins.attrNames;
  concatMapStrings = f: list: builtins.concatStringsSep "" (map f list);
  fileset = {
    toSource = { root, fileset }: root;
    unions = files: assert builtins.all builtins.pathExists files; files;
  };
  genAttrs =
    names: f:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = f name;
      }) names
    );
  getExe = package: "${package}/bin/${package.meta.mainProgram}";
  importJSON = file: builtins.fromJSON (builtins.readFile file);
  licenses.mit = {
    spdxId = "MIT";
  };
}
