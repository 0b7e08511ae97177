// Runs every conformance suite against a real jobql: `node run.mjs [suite …]`. Fails when anything fails.
//
// The suites in suites/*.test.mjs share one server, whose addresses they find in JOBQL_URL and JOBQL_WS_URL. Those that
// stop a server or need other settings start their own.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Server } from './server.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const wanted = process.argv.slice(2);
const suites = readdirSync(join(here, 'suites'))
  .filter((name) => name.endsWith('.test.mjs'))
  .filter((name) => wanted.length === 0 || wanted.some((word) => name.startsWith(word)))
  .map((name) => join('suites', name));
if (suites.length === 0) {
  console.error(`no suite is called ${wanted.join(', ')}`);
  process.exit(2);
}

const server = await new Server(['--slots', '8']).start();
let status = 1;
try {
  const env = { ...process.env, JOBQL_URL: server.url, JOBQL_WS_URL: server.wsUrl };
  const flags = ['--test', '--test-reporter=spec', '--test-timeout=300000', '--test-concurrency=2'];
  status = spawnSync(process.execPath, [...flags, ...suites], { cwd: here, env, stdio: 'inherit' }).status ?? 1;
  if (/panicked at/.test(server.logged())) {
    console.error(`the server panicked:\n${server.logged()}`);
    status = 1;
  }
} finally {
  await server.remove();
}
process.exit(status);
