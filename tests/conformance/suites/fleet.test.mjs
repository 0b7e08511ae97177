// A fleet of workers in several languages drains a queue while one of them is killed every few seconds: nothing is lost.
// JOBQL_FLEET_JOBS sets how many jobs, JOBQL_FLEET_SLOTS how many a worker runs at once; the figures are printed.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { ask, build, languages, serve, sleep, submit, Worker } from '../workers.mjs';

const JOBS = Number(process.env.JOBQL_FLEET_JOBS ?? 10_000);
const SLOTS = process.env.JOBQL_FLEET_SLOTS ?? '16';
const KILL_EVERY = 2000;
const FLEET = ['python', 'typescript', 'rust', 'python', 'typescript'];
const DONE = '{ queue(name: "primes") { counts { pending running scheduled done error cancelled } } }';
const PAGE = `query ($after: String) { jobs(kind: ["primes"], first: 200, after: $after) {
  nodes { id status result attempt attempts { outcome } } pageInfo { hasNextPage endCursor } } }`;

const expected = (below) => {
  let count = 0;
  for (let number = 2; number < below; number++) {
    let prime = true;
    for (let divisor = 2; divisor * divisor <= number; divisor++) prime &&= number % divisor !== 0;
    count += Number(prime);
  }
  return count;
};

test('nothing is lost', { timeout: 3_600_000 }, async () => {
  build('typescript');
  for (const language of FLEET) assert.ok(existsSync(languages[language].at(-1)), `${language} is not built`);
  const server = await serve();
  const fleet = [];
  try {
    const payloads = Array.from({ length: JOBS }, (_, index) => ({ below: index % 100 }));
    const ids = await submit(server, payloads, { maxAttempts: 50 });
    const start = (language) => new Worker(language, server, { JOBQL_LEASE_SECONDS: '5', JOBQL_SLOTS: SLOTS });
    fleet.push(...FLEET.map((language) => ({ language, worker: start(language) })));
    const started = Date.now();
    let killed = 0;
    for (let counts, next = started + KILL_EVERY; counts?.done !== JOBS; await sleep(250)) {
      ({ counts } = (await ask(server, DONE)).queue);
      if (Date.now() < next) continue;
      next = Date.now() + KILL_EVERY;
      const victim = fleet[killed % fleet.length];
      await victim.worker.end('SIGKILL');
      victim.worker = start(victim.language);
      killed += 1;
    }
    const seconds = (Date.now() - started) / 1000;
    const found = new Map();
    for (let after, more = true; more; ) {
      const { jobs } = await ask(server, PAGE, { after });
      for (const job of jobs.nodes) found.set(job.id, job);
      ({ hasNextPage: more, endCursor: after } = jobs.pageInfo);
    }
    const lost = ids.filter((id) => found.get(id)?.status !== 'DONE');
    const wrong = ids.filter((id, index) => found.get(id)?.result?.count !== expected(payloads[index].below));
    const all = [...found.values()];
    const again = all.filter(({ attempts }) => attempts.some(({ outcome }) => outcome === 'WORKER_LOST')).length;
    const by = Object.groupBy
      ? Object.fromEntries(Object.entries(Object.groupBy(all, ({ result }) => result.by)).map(([name, jobs]) => [name, jobs.length]))
      : all.reduce((sums, { result }) => ({ ...sums, [result.by]: (sums[result.by] ?? 0) + 1 }), {});
    console.log(`attempted ${JOBS}, acknowledged ${ids.length}, lost ${lost.length}, unexpected ${found.size - ids.length}, ` +
      `lost a worker ${again}, kills ${killed}, ${seconds.toFixed(1)} s, by ${JSON.stringify(by)}`);
    assert.deepEqual([lost.length, wrong.length, found.size], [0, 0, JOBS]);
    assert.ok(new Set(FLEET).size === Object.keys(by).length, 'each language did some of it');
  } finally {
    await Promise.all(fleet.map(({ worker }) => worker.end('SIGKILL')));
    await server.remove();
  }
});
