/**
 * Makes node_modules current for the lockfile that is checked out, and checks that there is a Node
 * to run niche with. Runs on any Node since 18, with nothing installed.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const oldestMajor = 24;
const checkout = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const modules = path.join(checkout, 'node_modules');
const stamp = path.join(modules, '.niche-setup');
const bundledNode = path.join(modules, '.bin', 'node');
// Not in node_modules, which `npm ci` empties.
const lock = path.join(checkout, '.tools', 'setup.lock');

const begun = Date.now();
if (isCurrent()) {
  finish('node_modules is current');
} else {
  await takeLock();
  if (isCurrent()) {
    finish('node_modules was made current by another setup');
  } else {
    await install();
    finish('installed node_modules for this lockfile');
  }
}

/** Returns a stamp of all inputs that determine what `npm ci` installs. */
function wanted() {
  const lockfile = fs.readFileSync(path.join(checkout, 'package-lock.json'));
  const digest = createHash('sha256').update(lockfile).digest('hex');
  return `${digest} ${process.platform} ${process.arch}\n`;
}

function isCurrent() {
  const isInstalled = fs.existsSync(path.join(modules, '.package-lock.json'));
  return isInstalled && readIfThere(stamp) === wanted();
}

async function install() {
  const hash = wanted();
  fs.rmSync(stamp, { force: true });
  console.log(`setup: installing node_modules with npm ci in ${checkout} …`);
  // Overrides user settings that would omit development packages or refuse an older Node.
  const args = ['ci', '--include=dev', '--include=optional', '--engine-strict=false'];
  const { status, output } = await runNpm([...args, '--no-audit', '--no-fund']);
  if (status !== 0) {
    process.stderr.write(output);
    fail(`npm ci failed (${status}); its output is above`);
  }
  fs.writeFileSync(stamp, hash);
}

function runNpm(args) {
  const given = process.env.npm_execpath ?? '';
  const isNpm = path.basename(given).startsWith('npm-cli');
  const [command, ...first] = isNpm ? [process.execPath, given] : ['npm'];
  return new Promise((resolve) => {
    // Explicit, because `npm run --silent` would also hide the reason for a failure of this npm.
    const child = spawn(command, [...first, ...args, '--loglevel=error'], {
      cwd: checkout,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const output = [];
    child.stdout.on('data', (chunk) => output.push(chunk));
    child.stderr.on('data', (chunk) => output.push(chunk));
    child.on('error', (error) => resolve({ status: error.message, output: '' }));
    child.on('close', (code, signal) =>
      resolve({ status: code ?? signal, output: Buffer.concat(output) }),
    );
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => child.kill(signal));
  });
}

/** Waits for the lock: a second `npm ci` would delete the files of the first. */
async function takeLock() {
  fs.mkdirSync(path.dirname(lock), { recursive: true });
  const ours = `${process.pid}\n`;
  for (let turns = 0; ; turns += 1) {
    try {
      // A link, so that the lock appears together with its contents.
      const draft = `${lock}.${process.pid}`;
      fs.writeFileSync(draft, ours);
      try {
        fs.linkSync(draft, lock);
      } finally {
        fs.rmSync(draft, { force: true });
      }
      process.on('exit', () => fs.rmSync(lock, { force: true }));
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const holder = readIfThere(lock);
    if (holder !== undefined && !isRunning(Number(holder))) dropLockOf(holder);
    else if (turns === 0) console.log('setup: waiting for another setup of this checkout …');
    await sleep(100);
  }
}

/** Removes the lock of a killed setup, unless another process has replaced it. */
function dropLockOf(holder) {
  const aside = `${lock}.${process.pid}.old`;
  try {
    fs.renameSync(lock, aside);
    if (readIfThere(aside) === holder) fs.rmSync(aside);
    else fs.renameSync(aside, lock);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
}

function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function readIfThere(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function finish(what) {
  const node = usableNode();
  console.log(`setup: ${what}; Node ${node} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
}

/** Returns the version of the Node that niche will run on. */
function usableNode() {
  if (fs.existsSync(bundledNode)) {
    const { status, stdout } = spawnSync(bundledNode, ['--version'], { encoding: 'utf8' });
    const version = stdout?.trim() ?? '';
    if (status === 0 && isNewEnough(version)) return version;
    // It does not run here, for example without glibc. The launcher must not choose it.
    fs.rmSync(bundledNode, { force: true });
  }
  if (isNewEnough(process.version)) return process.version;
  return fail(
    `niche needs Node ${oldestMajor} or newer: this is ${process.version}, and npm has none that runs on ` +
      `${process.platform} ${process.arch}. Install it from https://nodejs.org and run this again`,
  );
}

function isNewEnough(version) {
  return Number(/^v(\d+)\./.exec(version)?.[1] ?? 0) >= oldestMajor;
}

function fail(message) {
  console.error(`setup: ${message}`);
  process.exit(1);
}
