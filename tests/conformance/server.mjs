// A jobql of its own for a suite: `jobql serve` on an embedded PostgreSQL, or on JOBQL_TEST_DATABASE_URL where that is
// set. It can be stopped and started again on the same port and data, as a deployment does.

import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
export const repository = resolve(here, '../..');

/** The binary under test. It runs in a folder of its own, so that no configuration file is read. */
export const binary =
  process.env.JOBQL_BINARY ?? join(process.env.CARGO_TARGET_DIR ?? join(repository, 'target'), 'debug/jobql');

export class Server {
  #folder = mkdtempSync(join(tmpdir(), 'jobql-conformance-'));
  #child;
  #listen = '127.0.0.1:0';
  #flags;

  constructor(flags = []) {
    this.#flags = flags;
  }

  /** `http://…/graphql`. */
  get url() {
    return `http://${this.#listen}/graphql`;
  }

  /** `ws://…/graphql`. */
  get wsUrl() {
    return `ws://${this.#listen}/graphql`;
  }

  /** What brings another program to the same database. */
  get databaseFlags() {
    const url = process.env.JOBQL_TEST_DATABASE_URL;
    return url ? ['--database-url', url] : ['--data-dir', join(this.#folder, 'data')];
  }

  /** The secret of a new token. From the first one on nobody comes in without. */
  newToken(...what) {
    const flags = ['token', 'create', '--config', join(repository, 'jobql.toml'), ...this.databaseFlags, ...what];
    const made = spawnSync(binary, flags, { cwd: this.#folder, encoding: 'utf8' });
    if (made.status !== 0) throw new Error(made.stderr);
    return made.stdout.trim();
  }

  get #log() {
    return join(this.#folder, 'log');
  }

  async start() {
    const log = openSync(this.#log, 'a');
    const env = { ...process.env };
    if (process.env.JOBQL_TEST_DATABASE_URL) env.JOBQL_DATABASE_URL = process.env.JOBQL_TEST_DATABASE_URL;
    const flags = ['serve', '--listen', this.#listen, '--data-dir', join(this.#folder, 'data'), ...this.#flags];
    this.#child = spawn(binary, flags, { cwd: this.#folder, env, stdio: ['ignore', 'pipe', log] });
    const child = this.#child;
    this.#listen = await new Promise((found, failed) => {
      let said = '';
      const giveUp = setTimeout(() => failed(new Error(`no address within 60 s:\n${this.logged()}`)), 60_000);
      child.stdout.on('data', (chunk) => {
        said += chunk;
        const address = /http:\/\/(\S+?)\/graphql/.exec(said);
        if (!address) return;
        clearTimeout(giveUp);
        found(address[1]);
      });
      child.once('error', failed);
      child.once('exit', (code) => failed(new Error(`jobql ended with ${code}:\n${this.logged()}`)));
    });
    return this;
  }

  /** Resident memory in kB. */
  residentKb() {
    return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${this.#child.pid}/status`, 'utf8'))[1]);
  }

  logged() {
    return readFileSync(this.#log, 'utf8');
  }

  /** Ends the process, in order or not, and keeps its data. */
  async stop(signal = 'SIGTERM') {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((done) => child.once('exit', done));
    child.kill(signal);
    await ended;
  }

  /** Ends it and removes its data. */
  async remove() {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
