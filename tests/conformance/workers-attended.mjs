// An example worker against a real server: what becomes of its jobs when it is killed, paused, drained, asked to stop,
// and when the server goes away for a while. It has a worker's token in its environment, without which it would get nothing.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ask, build, job, reaches, serve, sleep, submit, until, Worker } from './workers.mjs';

const CANCEL = 'mutation ($id: ID!) { cancelJob(id: $id) { status } }';
const DRAIN = 'mutation ($id: ID!) { drainWorker(id: $id) { state } }';
const outcomes = (found) => found.attempts.map(({ outcome }) => outcome);

/** The suite of one language. */
export const attend = (language) =>
  describe(`the worker in ${language}`, { concurrency: 1 }, () => {
    let server;
    let token;
    const running = new Set();
    const start = (env) => {
      const worker = new Worker(language, server, { JOBQL_TOKEN: token, JOBQL_LEASE_SECONDS: '5', JOBQL_SLOTS: '4', ...env });
      running.add(worker);
      worker.ended.then(() => running.delete(worker));
      return worker;
    };
    before(async () => {
      build(language);
      server = await serve();
      server.token = server.newToken('--scope', 'operator');
      token = server.newToken('--scope', 'worker', '--kind', 'primes');
    });
    after(async () => {
      await Promise.all([...running].map((worker) => worker.end('SIGKILL')));
      await server.remove();
    });

    test('runs jobs, refuses bad ones for good, and survives a restart of the server', async () => {
      const worker = start();
      const [good, bad] = await submit(server, [{ below: 100 }, { below: 'many' }]);
      assert.deepEqual((await reaches(server, good, 'DONE')).result, { count: 25, by: language });
      assert.deepEqual(outcomes(await reaches(server, bad, 'ERROR')), ['ERROR']);
      const [slow] = await submit(server, [{ below: 100, pauseSeconds: 0.3 }]);
      await reaches(server, slow, 'RUNNING');
      await server.stop();
      await server.start();
      await reaches(server, slow, 'DONE');
      const ids = await submit(server, Array.from({ length: 20 }, () => ({ below: 10 })));
      for (const id of ids) assert.equal((await reaches(server, id, 'DONE')).result.count, 4);
      assert.equal(await worker.end('SIGTERM'), 0, worker.said);
    });

    test('gets nothing without its token, says so, and goes on', async () => {
      const worker = start({ JOBQL_TOKEN: 'jobql_none' });
      await until('it says why', () => worker.said.includes('UNAUTHENTICATED'));
      assert.ok(worker.isRunning, worker.said);
      assert.equal(await worker.end('SIGTERM'), 0, worker.said);
    });

    test('stops when the job is cancelled, and when an operator asks it to', async () => {
      const worker = start();
      const [cancelled, finished] = await submit(server, [{ below: 10, pauseSeconds: 5 }, { below: 10, pauseSeconds: 0.6 }]);
      await reaches(server, cancelled, 'RUNNING');
      await reaches(server, finished, 'RUNNING');
      await ask(server, CANCEL, { id: cancelled });
      await reaches(server, cancelled, 'CANCELLED', 10);
      const { workers } = await ask(server, '{ workers { id state } }');
      for (const { id } of workers.filter(({ state }) => state === 'LIVE')) await ask(server, DRAIN, { id });
      assert.equal(await worker.ended, 0, worker.said);
      assert.equal((await job(server, finished)).status, 'DONE', 'what it had it finished');
    });

    test('finishes at SIGTERM what it has, and gives nothing up', async () => {
      const worker = start({ JOBQL_SLOTS: '2' });
      const ids = await submit(server, Array.from({ length: 4 }, () => ({ below: 10, pauseSeconds: 0.3 })));
      await reaches(server, ids[0], 'RUNNING');
      await reaches(server, ids[1], 'RUNNING');
      assert.equal(await worker.end('SIGTERM'), 0, worker.said);
      const found = await Promise.all(ids.map((id) => job(server, id)));
      assert.deepEqual(found.map(({ status }) => status), ['DONE', 'DONE', 'PENDING', 'PENDING']);
      assert.deepEqual(found.map(({ attempt }) => attempt), [1, 1, 0, 0]);
      const next = start();
      for (const id of ids) await reaches(server, id, 'DONE');
      await next.end('SIGTERM');
    });

    test('killed with -9, its jobs are run by another', async () => {
      const worker = start();
      const ids = await submit(server, [{ below: 10, pauseSeconds: 1 }, { below: 100, pauseSeconds: 1 }]);
      for (const id of ids) await reaches(server, id, 'RUNNING');
      await worker.end('SIGKILL');
      const next = start();
      for (const id of ids) assert.deepEqual(outcomes(await reaches(server, id, 'DONE')), ['WORKER_LOST', 'DONE']);
      await next.end('SIGTERM');
    });

    test('paused for longer than its lease, it does no harm and goes on', async () => {
      const worker = start();
      const [id] = await submit(server, [{ below: 1000, pauseSeconds: 0.5 }]);
      await reaches(server, id, 'RUNNING');
      worker.child.kill('SIGSTOP');
      const other = start();
      const done = await reaches(server, id, 'DONE');
      assert.deepEqual(outcomes(done), ['WORKER_LOST', 'DONE']);
      await other.end('SIGTERM');
      worker.child.kill('SIGCONT');
      const [next] = await submit(server, [{ below: 10 }]);
      await reaches(server, next, 'DONE');
      // Long enough for the old handler to have come to its end, had it not been stopped.
      await sleep(6000);
      assert.deepEqual(await job(server, id), done);
      assert.ok(worker.isRunning, worker.said);
      assert.equal(await worker.end('SIGTERM'), 0, worker.said);
    });
  });
