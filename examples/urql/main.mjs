// Submits a job with urql and watches it: queries by GET, mutations by POST, the subscription as server-sent events, all
// on the same URL.
//
//     npm install && node urql/main.mjs http://127.0.0.1:8080/graphql
//
// JOBQL_TOKEN is sent where it is set.

import { Client, fetchExchange } from '@urql/core';

const url = process.argv[2] ?? 'http://127.0.0.1:8080/graphql';
const token = process.env.JOBQL_TOKEN;
const client = new Client({
  url,
  exchanges: [fetchExchange],
  fetchSubscriptions: true,
  preferGetMethod: 'force',
  fetchOptions: { headers: token ? { authorization: `Bearer ${token}` } : {} },
});

const SUBMIT = `mutation Submit($input: SubmitJobInput!) { submitJob(input: $input) { job { id } } }`;
const WATCH = `subscription Watch($id: ID!) { jobUpdated(id: $id) { id version status result } }`;
const JOBS = `query Jobs { jobs(first: 5) { nodes { id displayName status } } }`;

const input = { kind: 'sum', payload: { start: 1, end: 4, pauseSeconds: 0.2 } };
const submitted = await client.mutation(SUBMIT, { input });
if (submitted.error) throw submitted.error;
const { id } = submitted.data.submitJob.job;
console.log('submitted', id);

const last = await new Promise((resolve, reject) => {
  const watching = client.subscription(WATCH, { id }).subscribe(({ data, error }) => {
    if (error) return reject(error);
    const job = data.jobUpdated;
    console.log(job);
    if (!['DONE', 'ERROR', 'CANCELLED'].includes(job.status)) return;
    setTimeout(() => watching.unsubscribe());
    resolve(job);
  });
});
if (last.result?.sum !== 10) throw new Error(`the job ended as ${JSON.stringify(last)}`);

const listed = await client.query(JOBS, {});
if (listed.error) throw listed.error;
console.table(listed.data.jobs.nodes);
