#!/usr/bin/env node
// The package's command, in syntax that every Node supports: with a Node that is too old, it prints a
// message instead of a syntax error.
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

// Caches compiled code, which halves the time of the next start. The cache must be in the user's own
// folder: anyone who can write to it can run code as the user.
function keepCompiled() {
  var path = require('path');
  var home = process.env.HOME;
  var caches = process.env.XDG_CACHE_HOME || (home && path.join(home, '.cache'));
  if (caches) require('module').enableCompileCache(path.join(caches, 'niche', 'compiled'));
}
