#!/usr/bin/env node
// The package's command, in syntax that every Node supports: with a Node that is too old, it prints a
// message instead of a syntax error.
'use strict';

// 24.5 is the first with proxies and replaceable certificate authorities.
var oldest = [24, 5];
var version = process.versions.node;
var parts = version.split('.').map(Number);

if (parts[0] < oldest[0] || (parts[0] === oldest[0] && parts[1] < oldest[1])) {
  process.stderr.write(
    'niche needs Node ' +
      oldest.join('.') +
      ' or newer, and ' +
      process.execPath +
      ' is ' +
      version +
      '.\n',
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
  if (!caches) return;
  var folder = path.join(caches, 'niche', 'compiled');
  try {
    makeFolders(path.resolve(folder));
  } catch (_) {
    return;
  }
  require('module').enableCompileCache(folder);
}

// Node's own way to create a folder with its parents never returns where a file system refuses new
// folders with ENOENT, as /proc does.
function makeFolders(folder) {
  var fs = require('fs');
  if (fs.existsSync(folder)) return;
  makeFolders(require('path').dirname(folder));
  fs.mkdirSync(folder, 448); // 0700: an octal number has no syntax that all versions support.
}
