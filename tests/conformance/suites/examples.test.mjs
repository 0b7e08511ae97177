// Each program of examples/ runs against a real server that wants a token, and ends well.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Server, binary, repository } from '../server.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const examples = join(repository, 'examples');
const modules = join(here, '../node_modules');
const server = new Server(['--slots', '8']);
// The packages that are locked here, where the examples look for theirs.
if (!existsSync(join(examples, 'node_modules'))) symlinkSync(modules, join(examples, 'node_modules'));

let token;
const run = async (program, ...args) => {
  const env = { ...process.env, JOBQL_TOKEN: token };
  const { stdout } = await promisify(execFile)(program, args, { cwd: examples, env, timeout: 100_000 });
  return stdout;
};

const programs = {
  curl: async (url) => {
    const said = await run('curl/submit-and-watch.sh', url);
    assert.match(said, /"queuePosition"/);
    assert.match(said, /event: next\ndata: .*"status":"DONE","result":\{"sum":10\}/);
    assert.match(said, /event: complete/);
  },
  python: async (url) => assert.match(await run(join(here, '../.venv/bin/python'), 'python/submit_and_watch.py', url), /DONE \{'sum': 10\}/),
  apollo: async (url) => assert.match(await run(process.execPath, 'apollo/main.mjs', url), /the cache holds DONE \{ sum: 10 \}/),
  urql: async (url) => assert.match(await run(process.execPath, 'urql/main.mjs', url), /status: 'DONE'/),
  typescript: async (url) => {
    await run(process.execPath, 'node_modules/@graphql-codegen/cli/cjs/bin.js', '--config', 'typescript/codegen.ts');
    await run(process.execPath, 'node_modules/typescript/bin/tsc', '--project', 'typescript');
    assert.match(await run(process.execPath, 'typescript/built/main.js', url), /DONE/);
  },
  rust: async (url) =>
    assert.match(await run(join(dirname(binary), 'examples/submit_and_watch'), url), /DONE \{"sum":10\}\n(\w+ .+\n)*DONE sum\n/),
};

describe('examples', { concurrency: 3 }, () => {
  before(async () => {
    await server.start();
    const flags = ['token', 'create', '--scope', 'client', '--client-id', 'examples', ...server.databaseFlags];
    token = (await promisify(execFile)(binary, flags)).stdout.trim();
    // The server hears of its first token by a notification.
    while ((await fetch(server.url)).status !== 401) await new Promise((go) => setTimeout(go, 100));
  });
  after(() => server.remove());
  for (const [name, program] of Object.entries(programs)) test(name, () => program(server.url));
  test('without a token, where none is wanted', async () => {
    const env = { ...process.env };
    delete env.JOBQL_TOKEN;
    const { stdout } = await promisify(execFile)('curl/submit-and-watch.sh', [process.env.JOBQL_URL], { cwd: examples, env });
    assert.match(stdout, /event: complete/);
  });
  test('every folder of examples has its test', () => {
    const folders = readdirSync(examples, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    // Those of `workers` have suites of their own.
    const names = folders.map((entry) => entry.name).filter((name) => !['node_modules', 'workers'].includes(name));
    assert.deepEqual(names.sort(), Object.keys(programs).sort());
  });
});
