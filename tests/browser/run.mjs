// The pages in Chromium against a real jobql: `node run.mjs [suite …]`. Each suite starts its own server.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

const wanted = process.argv.slice(2);
const suites = readdirSync(join(import.meta.dirname, 'suites'))
  .filter((name) => name.endsWith('.test.mjs'))
  .filter((name) => wanted.length === 0 || wanted.some((word) => name.startsWith(word)))
  .map((name) => join('suites', name));
if (suites.length === 0) {
  console.error(`no suite is called ${wanted.join(', ')}`);
  process.exit(2);
}
const flags = ['--test', '--test-reporter=spec', '--test-timeout=240000', '--test-concurrency=2'];
const { status } = spawnSync(process.execPath, [...flags, ...suites], { cwd: import.meta.dirname, stdio: 'inherit' });
process.exit(status ?? 1);
