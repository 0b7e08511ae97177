// Counts primes for jobql: node built/worker.js [URL]. Ends at SIGTERM, once its jobs are finished.
//
// JOBQL_TOKEN is sent where it is set; JOBQL_SLOTS and JOBQL_LEASE_SECONDS change how much it takes on and for how long.

import { setTimeout as sleep } from 'node:timers/promises';
import { type Job, JobError, type Json, Worker } from './jobql-worker.js';

const isPrime = (number: number): boolean => {
  for (let divisor = 2; divisor * divisor <= number; divisor++) if (number % divisor === 0) return false;
  return number > 1;
};

/** Payload {below, pauseSeconds = 0}; result {count, by}. It pauses ten times. */
const count = async (job: Job): Promise<Json> => {
  const { below, pauseSeconds = 0 } = job.payload as { below?: number; pauseSeconds?: number };
  if (!Number.isInteger(below) || below! < 0 || below! > 10_000_000) {
    throw new JobError('INVALID_INPUT', 'below: allowed is a whole number from 0 to 10000000', false);
  }
  let found = 0;
  for (let tenth = 0; tenth < 10; tenth++) {
    // Also lets the heartbeat have its turn.
    await sleep(pauseSeconds * 1000, undefined, { signal: job.signal });
    const end = Math.floor((below! * (tenth + 1)) / 10);
    for (let number = Math.floor((below! * tenth) / 10); number < end; number++) found += Number(isPrime(number));
    if (pauseSeconds) await job.progress((tenth + 1) / 10, `${found} so far`);
  }
  return { count: found, by: 'typescript' };
};

const url = process.argv[2] ?? 'http://127.0.0.1:8080/graphql';
const worker = new Worker({
  url,
  queues: ['primes'],
  handlers: { primes: count },
  slots: Number(process.env.JOBQL_SLOTS ?? 4),
  leaseSeconds: Number(process.env.JOBQL_LEASE_SECONDS ?? 30),
  token: process.env.JOBQL_TOKEN,
});
console.log(`${worker.name} works for ${url}`);
await worker.run();
