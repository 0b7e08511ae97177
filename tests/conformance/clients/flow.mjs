// What every client must be able to do: submit a job, page through a list, await a result.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

export const SUBMIT = `mutation Submit($input: SubmitJobInput!) {
  submitJob(input: $input) { created job { __typename id status } }
}`;
export const PAGE = `query Page($clientId: String!, $first: Int, $after: String) {
  jobs(clientId: $clientId, first: $first, after: $after) {
    totalCount edges { cursor node { __typename id } } pageInfo { hasNextPage endCursor }
  }
}`;
export const AWAIT = `query Await($id: ID!) { job(id: $id, waitSeconds: 20) { __typename id status result } }`;
export const WATCH = `subscription Watch($id: ID!) {
  jobUpdated(id: $id) { __typename id version status result }
}`;

/** Submits three jobs, and reads them back in pages of two; newest first. */
export async function submitAndPage(run) {
  const clientId = `client-${randomUUID()}`;
  const ids = [];
  for (const end of [3, 4, 5]) {
    const input = { kind: 'sum', payload: { start: 1, end }, clientId };
    const { submitJob } = await run(SUBMIT, { input });
    assert.equal(submitJob.created, true);
    ids.push(submitJob.job.id);
  }
  const first = (await run(PAGE, { clientId, first: 2, after: null })).jobs;
  assert.equal(first.totalCount, 3);
  assert.equal(first.pageInfo.hasNextPage, true);
  // Left out rather than null, as clients do with what is undefined.
  const second = (await run(PAGE, { clientId, after: first.pageInfo.endCursor })).jobs;
  assert.equal(second.pageInfo.hasNextPage, false);
  const listed = [...first.edges, ...second.edges].map((edge) => edge.node.id);
  assert.deepEqual(listed, ids.reverse());
}

/** Awaits a result by asking. */
export async function awaitByQuery(run) {
  const input = { kind: 'sum', payload: { start: 1, end: 3 } };
  const { submitJob } = await run(SUBMIT, { input });
  const { job } = await run(AWAIT, { id: submitJob.job.id });
  assert.equal(job.status, 'DONE');
  assert.deepEqual(job.result, { sum: 6 });
}

/** Awaits a result by watching: `watch` gives the data of each event. */
export async function awaitByWatching(run, watch) {
  const input = { kind: 'sum', payload: { start: 1, end: 3, pauseSeconds: 0.2 } };
  const { submitJob } = await run(SUBMIT, { input });
  const seen = [];
  for await (const data of watch(WATCH, { id: submitJob.job.id })) seen.push(data.jobUpdated);
  const versions = seen.map((job) => job.version);
  assert.deepEqual(versions, [...versions].sort((one, other) => one - other), 'never back');
  assert.equal(seen.at(-1).status, 'DONE');
  assert.deepEqual(seen.at(-1).result, { sum: 6 });
  return seen.at(-1);
}

/** An iterator over what an observable gives; it ends with the observable. */
export async function* iterate(subscribe) {
  const waiting = [];
  let wake = () => {};
  const push = (entry) => {
    waiting.push(entry);
    wake();
  };
  const stop = subscribe({
    next: (value) => push({ value }),
    error: (error) => push({ error }),
    complete: () => push({ done: true }),
  });
  try {
    for (;;) {
      while (waiting.length === 0) await new Promise((go) => (wake = go));
      const entry = waiting.shift();
      if (entry.error) throw entry.error;
      if (entry.done) return;
      yield entry.value;
    }
  } finally {
    stop();
  }
}
