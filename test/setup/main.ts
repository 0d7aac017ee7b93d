/** Installs every server and tool that tests use and that is not installed yet. */
import { setupAzurite } from './azurite.ts';
import { findGpg } from './gpg.ts';
import { setupNix } from './nix.ts';
import { setupPython } from './python.ts';
import { printReports } from './tools.ts';
import { setupVersitygw } from './versitygw.ts';

const reports = await Promise.all([
  setupNix(),
  setupAzurite(),
  setupPython(),
  setupVersitygw(),
  findGpg(),
]);
printReports(reports.flat());
