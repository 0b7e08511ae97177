// A worker for jobql without dependencies: claims jobs, runs handlers, keeps the leases, stops in order.
//
//   await new Worker({ url, queues: ['primes'], handlers: { primes: count } }).run();
//
// A handler gets a Job and gives what can be written as JSON, or throws: JobError in its own words, anything else to be
// tried again. `job.signal` is aborted when the job is cancelled, when its lease is lost and others may run it, and when
// the worker must stop. A handler must not block the event loop, on which the heartbeat runs too.

import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Handler = (job: Job) => Promise<Json> | Json;
export interface Options {
  url: string;
  queues: string[];
  handlers: Record<string, Handler>;
  slots?: number;
  leaseSeconds?: number;
  drainSeconds?: number;
  name?: string;
  token?: string;
}
interface Claimed {
  job: { id: string; kind: string; attempt: number; payload: Json };
  leaseToken: string;
}
interface Heartbeat {
  results: { state: 'HELD' | 'LOST' | 'CANCEL_REQUESTED' }[];
  drain: boolean;
}
type Variables = Record<string, unknown>;

const FIELDS: Record<string, [string, string, string]> = {
  claimJobs: ['$input: ClaimJobsInput!', 'input: $input', '{ job { id kind attempt payload } leaseToken }'],
  heartbeat: ['$id: String!, $leases: [LeaseInput!]!', 'workerId: $id, leases: $leases', '{ results { state } drain }'],
  completeJob: ['$lease: LeaseInput!, $result: JSON', 'lease: $lease, result: $result', '{ status }'],
  failJob: ['$lease: LeaseInput!, $error: JobErrorInput!', 'lease: $lease, error: $error', '{ status }'],
  releaseJob: ['$lease: LeaseInput!', 'lease: $lease', '{ status }'],
  reportProgress: [
    '$lease: LeaseInput!, $fraction: Float, $message: String',
    'lease: $lease, fraction: $fraction, message: $message',
    '{ id }',
  ],
  appendLogs: ['$lease: LeaseInput!, $lines: [LogLineInput!]!', 'lease: $lease, lines: $lines', ''],
};
// With these, or without an answer, the same call is worth another try.
const TRY_AGAIN = ['UNAVAILABLE', 'UNKNOWN_OUTCOME', 'RATE_LIMITED', 'REQUEST_TIMEOUT', 'INTERNAL_SERVER_ERROR'];

/** Why a job failed, in the handler's own words. */
export class JobError extends Error {
  constructor(readonly code: string, message: string, readonly retryable = true) {
    super(message);
  }
}

/** The server's answer was an error; `code` is its extensions.code. */
class ApiError extends Error {
  constructor(readonly code: string, message: string) {
    super(`${code}: ${message}`);
  }
}

class Api {
  constructor(readonly url: string, readonly token?: string) {}

  async call<T>(field: string, variables: Variables, patienceSeconds = 20): Promise<T> {
    const [declared, passed, selection] = FIELDS[field]!;
    const response = await fetch(this.url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/graphql-response+json',
        ...(this.token ? { authorization: `Bearer ${this.token}` } : {}),
      },
      body: JSON.stringify({ query: `mutation (${declared}) { ${field}(${passed}) ${selection} }`, variables }),
      signal: AbortSignal.timeout(Math.ceil(patienceSeconds * 1000)),
    });
    const answer = (await response.json()) as { data?: Record<string, T>; errors?: any[] };
    const error = answer.errors?.[0];
    if (error) throw new ApiError(error.extensions?.code ?? String(response.status), error.message);
    return answer.data![field]!;
  }
}

/** A job that this worker holds. */
export class Job {
  readonly id: string;
  readonly kind: string;
  readonly attempt: number;
  readonly payload: Json;
  readonly lease: { jobId: string; token: string };
  readonly #stop = new AbortController();
  lost = false;

  constructor(readonly api: Api, claimed: Claimed) {
    ({ id: this.id, kind: this.kind, attempt: this.attempt, payload: this.payload } = claimed.job);
    this.lease = { jobId: this.id, token: claimed.leaseToken };
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  progress(fraction?: number, message?: string): Promise<void> {
    return this.#tell('reportProgress', { fraction, message });
  }

  log(text: string): Promise<void> {
    return this.#tell('appendLogs', { lines: [{ stream: 'STDOUT', text }] });
  }

  /** Only worth saying now: what fails is not repeated. */
  async #tell(field: string, variables: Variables): Promise<void> {
    await this.api.call(field, { lease: this.lease, ...variables }).catch((error) => {
      if (error instanceof ApiError && error.code === 'LEASE_LOST') this.lose();
    });
  }

  stop(): void {
    this.#stop.abort();
  }

  lose(): void {
    this.lost = true;
    this.stop();
  }
}

/** Claims and runs jobs until SIGTERM or SIGINT, then finishes what it has. */
export class Worker {
  readonly name: string;
  readonly #options: Required<Omit<Options, 'name' | 'token'>>;
  readonly #api: Api;
  readonly #held = new Map<Job, Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(options: Options) {
    this.#options = { slots: 4, leaseSeconds: 30, drainSeconds: 20, ...options };
    this.#api = new Api(options.url, options.token);
    this.name = options.name ?? `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`;
  }

  async run(): Promise<void> {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => this.#stopping.abort());
    const over = new AbortController();
    const beating = this.#keepLeases(over.signal);
    await this.#claim();
    if (!(await this.#idleWithin(this.#options.drainSeconds))) {
      for (const job of this.#held.keys()) job.stop();
      await this.#idleWithin(5);
    }
    over.abort();
    await beating;
  }

  async #claim(): Promise<void> {
    const { slots, queues, leaseSeconds } = this.#options;
    while (!this.#stopping.signal.aborted) {
      const free = slots - this.#held.size;
      if (free <= 0) {
        await Promise.race([...this.#held.values(), aborted(this.#stopping.signal)]);
        continue;
      }
      // Short waits, so that a stop is soon heeded; a repeated claim brings what a lost answer held.
      const input = { workerId: this.name, queues, leaseSeconds, waitSeconds: 3, max: Math.min(free, 500), claimId: randomUUID() };
      for (const claimed of (await this.#persist<Claimed[]>('claimJobs', { input })) ?? []) {
        const job = new Job(this.#api, claimed);
        this.#held.set(job, this.#work(job).finally(() => this.#held.delete(job)));
      }
    }
  }

  async #work(job: Job): Promise<void> {
    let end: [string, Variables] = ['releaseJob', {}];
    if (!this.#stopping.signal.aborted) {
      try {
        end = ['completeJob', { result: await this.#options.handlers[job.kind]!(job) }];
      } catch (error) {
        const { code, message, retryable } = error instanceof JobError ? error : new JobError('FAILED', String(error));
        // CANCELLED when it was asked to stop, else another worker's.
        if (!job.signal.aborted) end = ['failJob', { error: { code, message, retryable } }];
      }
    }
    await this.#persist(end[0], { lease: job.lease, ...end[1] }, job);
  }

  /** Repeats the call, which is safe, until it is answered, or the lease is lost, or the worker stops. */
  async #persist<T>(field: string, variables: Variables, job?: Job): Promise<T | undefined> {
    for (let pause = 200; !job?.lost; pause = Math.min(pause * 2, 5000)) {
      try {
        return await this.#api.call<T>(field, variables);
      } catch (error) {
        if (error instanceof ApiError && !TRY_AGAIN.includes(error.code)) {
          if (field === 'completeJob' && ['INVALID_PAYLOAD', 'PAYLOAD_TOO_LARGE'].includes(error.code)) {
            const refused = { code: error.code, message: error.message, retryable: false };
            return this.#persist('failJob', { lease: job!.lease, error: refused }, job);
          }
          if (error.code !== 'LEASE_LOST') console.error(`${field}: ${error.message}`);
          if (field !== 'claimJobs') return undefined;
        }
      }
      if (field === 'claimJobs' && this.#stopping.signal.aborted) return undefined;
      await sleep(pause * (0.5 + Math.random() / 2));
    }
    return undefined;
  }

  async #keepLeases(over: AbortSignal): Promise<void> {
    const { leaseSeconds } = this.#options;
    const period = Math.min(leaseSeconds / 3, 10);
    let safeUntil = performance.now() + leaseSeconds * 1000;
    while (await sleep(period * 1000, true, { signal: over }).catch(() => false)) {
      const [sentAt, jobs] = [performance.now(), [...this.#held.keys()]];
      if (sentAt > safeUntil) jobs.forEach((job) => job.lose());
      const leases = jobs.map((job) => job.lease);
      const answer = await this.#api
        .call<Heartbeat>('heartbeat', { id: this.name, leases }, period)
        .catch(() => undefined);
      if (!answer) continue;
      safeUntil = sentAt + leaseSeconds * 1000;
      answer.results.forEach(({ state }, index) => {
        if (state === 'LOST') jobs[index]!.lose();
        if (state === 'CANCEL_REQUESTED') jobs[index]!.stop();
      });
      if (answer.drain) this.#stopping.abort();
    }
  }

  async #idleWithin(seconds: number): Promise<boolean> {
    const idle = Promise.all(this.#held.values()).then(() => true);
    return Promise.race([idle, sleep(seconds * 1000, false, { ref: false })]);
  }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((done) => (signal.aborted ? done() : signal.addEventListener('abort', () => done(), { once: true })));
