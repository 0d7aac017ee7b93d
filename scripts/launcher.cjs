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
  keepCompiled();
  import('./main.mjs');
}

// Node keeps what it compiles, so that the next start takes half the time. It is kept in the user's own
// folder: whoever may write to it could have this user run anything.
function keepCompiled() {
  var path = require('path');
  var home = process.env.HOME;
  var caches = process.env.XDG_CACHE_HOME || (home && path.join(home, '.cache'));
  if (caches) require('module').enableCompileCache(path.join(caches, 'niche', 'compiled'));
}
