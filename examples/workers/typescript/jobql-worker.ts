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

const CLAIM = `mutation ($input: ClaimJobsInput!) {
  claimJobs(input: $input) { job { id kind attempt payload } leaseToken } }`;
const HEARTBEAT = `mutation ($id: String!, $leases: [LeaseInput!]!) {
  heartbeat(workerId: $id, leases: $leases) { results { state } drain } }`;
const COMPLETE = 'mutation ($lease: LeaseInput!, $result: JSON) { completeJob(lease: $lease, result: $result) { status } }';
const FAIL = 'mutation ($lease: LeaseInput!, $error: JobErrorInput!) { failJob(lease: $lease, error: $error) { status } }';
const RELEASE = 'mutation ($lease: LeaseInput!) { releaseJob(lease: $lease) { status } }';
const PROGRESS = `mutation ($lease: LeaseInput!, $fraction: Float, $message: String) {
  reportProgress(lease: $lease, fraction: $fraction, message: $message) { id } }`;
const LOG = 'mutation ($lease: LeaseInput!, $lines: [LogLineInput!]!) { appendLogs(lease: $lease, lines: $lines) }';

// With these the same call is worth another try.
const TRY_AGAIN = ['NO_ANSWER', 'UNAVAILABLE', 'UNKNOWN_OUTCOME', 'RATE_LIMITED', 'REQUEST_TIMEOUT', 'INTERNAL_SERVER_ERROR'];

/** Why a job failed, in the handler's own words. */
export class JobError extends Error {
  constructor(readonly code: string, message: string, readonly retryable = true) {
    super(message);
  }
}

/** The server refused a call, or did not answer it; `code` is its extensions.code, or NO_ANSWER. */
class ApiError extends JobError {}

/** Calls the server. */
class Api {
  constructor(readonly url: string, readonly token?: string) {}

  /** What the document's one field gives. */
  async call<T>(document: string, variables: Variables, patienceSeconds = 20): Promise<T> {
    const request = {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/graphql-response+json',
        ...(this.token && { authorization: `Bearer ${this.token}` }),
      },
      body: JSON.stringify({ query: document, variables }),
      signal: AbortSignal.timeout(Math.ceil(patienceSeconds * 1000)),
    };
    const answer: any = await fetch(this.url, request)
      .then((response) => response.json())
      .catch((error) => ({ errors: [{ message: String(error), extensions: { code: 'NO_ANSWER' } }] }));
    const error = answer.errors?.[0];
    if (error) throw new ApiError(error.extensions.code, error.message);
    return Object.values(answer.data)[0] as T;
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
    return this.#tell(PROGRESS, { fraction, message });
  }

  log(text: string): Promise<void> {
    return this.#tell(LOG, { lines: [{ stream: 'STDOUT', text }] });
  }

  /** Only worth saying now: what fails is not repeated. */
  async #tell(document: string, variables: Variables): Promise<void> {
    await this.api.call(document, { lease: this.lease, ...variables }).catch((error) => {
      if (error.code === 'LEASE_LOST') this.lose();
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
    if (!(await this.#isIdleWithin(this.#options.drainSeconds))) {
      for (const job of this.#held.keys()) job.stop();
      await this.#isIdleWithin(5);
    }
    over.abort();
    await beating;
  }

  async #claim(): Promise<void> {
    const { slots, queues, leaseSeconds } = this.#options;
    const stopping = this.#stopping.signal;
    const stopped = new Promise<void>((done) => stopping.addEventListener('abort', () => done(), { once: true }));
    for (;;) {
      while (this.#held.size >= slots && !stopping.aborted) await Promise.race([...this.#held.values(), stopped]);
      const max = Math.min(slots - this.#held.size, 500);
      // Short waits, so that a stop is soon heeded. Under its id a repeated claim brings what a lost answer held.
      const input = { workerId: this.name, queues, leaseSeconds, waitSeconds: 3, max, claimId: randomUUID() };
      try {
        const claimed = await this.#insist<Claimed[]>(CLAIM, { input }, () => stopping.aborted);
        if (!claimed) return;
        for (const each of claimed) {
          const job = new Job(this.#api, each);
          this.#held.set(job, this.#work(job).finally(() => this.#held.delete(job)));
        }
      } catch (error) {
        console.error(`cannot claim: ${describe(error)}`);
        await Promise.race([sleep(5000), stopped]);
      }
    }
  }

  async #work(job: Job): Promise<void> {
    await this.#runAndEnd(job).catch((error) => {
      if (error.code !== 'LEASE_LOST') console.error(`${job.kind} ${job.id}: ${describe(error)}`);
    });
  }

  async #runAndEnd(job: Job): Promise<void> {
    if (this.#stopping.signal.aborted) return this.#end(job, RELEASE);
    let result: Json;
    try {
      result = await this.#options.handlers[job.kind]!(job);
      JSON.stringify(result);
    } catch (error) {
      // CANCELLED if it was asked to stop.
      if (job.signal.aborted) return this.#end(job, RELEASE);
      return this.#fail(job, error instanceof JobError ? error : new JobError('FAILED', String(error)));
    }
    try {
      await this.#end(job, COMPLETE, { result });
    } catch (error) {
      if (!(error instanceof ApiError && ['INVALID_PAYLOAD', 'PAYLOAD_TOO_LARGE'].includes(error.code))) throw error;
      await this.#fail(job, new JobError(error.code, error.message, false));
    }
  }

  #fail(job: Job, { code, message, retryable }: JobError): Promise<void> {
    return this.#end(job, FAIL, { error: { code, message, retryable } });
  }

  async #end(job: Job, document: string, variables: Variables = {}): Promise<void> {
    await this.#insist(document, { lease: job.lease, ...variables }, () => job.lost);
  }

  /** Repeats the call, which is safe, until it is answered; undefined when it is over before. */
  async #insist<T>(document: string, variables: Variables, isOver: () => boolean): Promise<T | undefined> {
    for (let pause = 200; !isOver(); pause = Math.min(pause * 2, 5000)) {
      try {
        return await this.#api.call<T>(document, variables);
      } catch (error) {
        if (!(error instanceof ApiError && TRY_AGAIN.includes(error.code))) throw error;
      }
      await sleep(pause * (0.5 + Math.random() / 2));
    }
    return undefined;
  }

  async #keepLeases(over: AbortSignal): Promise<void> {
    const { leaseSeconds } = this.#options;
    const period = Math.min(leaseSeconds / 3, 10);
    let safeUntil = performance.now() + leaseSeconds * 1000;
    while (await sleep(period * 1000, true, { signal: over }).catch(() => false)) {
      // By our own clock, from before the call: after a pause others may run the jobs.
      const [sentAt, jobs] = [performance.now(), [...this.#held.keys()]];
      if (sentAt > safeUntil) jobs.forEach((job) => job.lose());
      const variables = { id: this.name, leases: jobs.map((job) => job.lease) };
      const answer = await this.#api.call<Heartbeat>(HEARTBEAT, variables, period).catch(() => undefined);
      if (!answer) continue;
      safeUntil = sentAt + leaseSeconds * 1000;
      answer.results.forEach(({ state }, index) => {
        if (state === 'LOST') jobs[index]!.lose();
        if (state === 'CANCEL_REQUESTED') jobs[index]!.stop();
      });
      if (answer.drain) this.#stopping.abort();
    }
  }

  async #isIdleWithin(seconds: number): Promise<boolean> {
    const idle = Promise.all(this.#held.values()).then(() => true);
    return Promise.race([idle, sleep(seconds * 1000, false, { ref: false })]);
  }
}

const describe = (error: unknown): string => (error instanceof JobError ? `${error.code}: ${error.message}` : String(error));
