// The example workers as real processes, and what tests ask of a server about them.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { binary, repository, Server } from './server.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const examples = join(repository, 'examples');
if (!existsSync(join(examples, 'node_modules'))) symlinkSync(join(here, 'node_modules'), join(examples, 'node_modules'));

/** The command of each language's worker. */
export const languages = {
  python: ['python3', join(examples, 'workers/python/worker.py')],
  typescript: [process.execPath, join(examples, 'workers/typescript/built/worker.js')],
  rust: [join(dirname(binary), 'examples/native_worker')],
};

/** Compiles what has to be compiled. */
export const build = (language) => {
  if (language !== 'typescript') return;
  const compiled = spawnSync(
    process.execPath,
    [join(here, 'node_modules/typescript/bin/tsc'), '--project', 'workers/typescript'],
    { cwd: examples, encoding: 'utf8' },
  );
  if (compiled.status !== 0) throw new Error(compiled.stdout + compiled.stderr);
};

/** A server that knows the kind of the examples and runs nothing itself. */
export const serve = () =>
  new Server(['--slots', '0', '--config', join(repository, 'jobql.toml'), '--log-format', 'text']).start();

export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** What `look` finds, once it finds something. */
export const until = async (what, look, withinSeconds = 40) => {
  for (const deadline = Date.now() + withinSeconds * 1000; ; await sleep(100)) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${withinSeconds} s: ${what}`);
  }
};

export const ask = async (server, query, variables = {}) => {
  const headers = { 'content-type': 'application/json', ...(server.token && { authorization: `Bearer ${server.token}` }) };
  const response = await fetch(server.url, { method: 'POST', headers, body: JSON.stringify({ query, variables }) });
  const answer = await response.json();
  if (answer.errors) throw new Error(JSON.stringify(answer.errors));
  return answer.data;
};

const SUBMIT = `mutation ($inputs: [SubmitJobInput!]!) { submitJobs(inputs: $inputs) { job { id } } }`;

/** Ids of new jobs, one for each payload. */
export const submit = async (server, payloads, more = {}) => {
  const ids = [];
  for (let first = 0; first < payloads.length; first += 1000) {
    const inputs = payloads.slice(first, first + 1000).map((payload) => ({ kind: 'primes', payload, ...more }));
    ids.push(...(await ask(server, SUBMIT, { inputs })).submitJobs.map(({ job }) => job.id));
  }
  return ids;
};

const JOB = `query ($id: ID!) { job(id: $id) { status version result attempt attempts { outcome } progress { fraction } } }`;
export const job = async (server, id) => (await ask(server, JOB, { id })).job;

/** The job once it has this status. */
export const reaches = (server, id, status, withinSeconds) =>
  until(`${id} is ${status}`, async () => {
    const found = await job(server, id);
    return found.status === status && found;
  }, withinSeconds);

/** A worker process. */
export class Worker {
  constructor(language, server, env = {}) {
    const [program, ...args] = languages[language];
    this.said = '';
    // The one in Rust works on the database.
    const where = language === 'rust' ? ['--config', join(repository, 'jobql.toml'), ...server.databaseFlags] : [server.url];
    this.child = spawn(program, [...args, ...where], { env: { ...process.env, ...env } });
    for (const pipe of [this.child.stdout, this.child.stderr]) pipe.on('data', (chunk) => (this.said += chunk));
    this.ended = new Promise((done) => this.child.once('exit', (code, signal) => done(signal ?? code)));
  }

  /** Sends the signal and says how the process ended. */
  end(signal) {
    this.child.kill(signal);
    return this.ended;
  }

  get isRunning() {
    return this.child.exitCode === null && this.child.signalCode === null;
  }
}
