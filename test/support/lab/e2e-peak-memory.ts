// Loaded into a process with --import. When the process exits, it writes its peak memory to a file.
import { readFileSync, writeFileSync } from 'node:fs';

const { NICHE_TEST_PEAK_FILE: file } = process.env;
if (file !== undefined) {
  process.on('exit', () => {
    const [, kibibytes] =
      /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
    writeFileSync(file, String(Number(kibibytes) * 1024));
  });
}
