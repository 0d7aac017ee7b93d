#!/usr/bin/env node
// The package's command. It keeps to what any Node understands, so that one which is too old for
// niche says so instead of failing on the syntax.
'use strict';

var oldest = 24;
var version = process.versions.node;

if (parseInt(version, 10) < oldest) {
  process.stderr.write(
    'niche needs Node ' + oldest + ' or newer, and ' + process.execPath + ' is ' + version + '.\n',
  );
  process.exitCode = 1;
} else {
  import('./main.mjs');
}
