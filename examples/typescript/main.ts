// Submits a job and watches it over a WebSocket, with graphql-ws and types that graphql-codegen made.
//
//     npm install && npm run typescript -- http://127.0.0.1:8080/graphql
//
// JOBQL_TOKEN is sent where it is set.

import { print } from 'graphql';
import type { TypedDocumentNode } from '@graphql-typed-document-node/core';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { graphql } from './generated/gql.js';

const Submit = graphql(`
  mutation Submit($input: SubmitJobInput!) {
    submitJob(input: $input) {
      created
      job {
        id
        displayName
      }
    }
  }
`);
const Watch = graphql(`
  subscription Watch($id: ID!) {
    jobUpdated(id: $id) {
      version
      status
      progress {
        fraction
      }
      result
    }
  }
`);

const url = (process.argv[2] ?? 'http://127.0.0.1:8080/graphql').replace(/^http/, 'ws');
// A socket that breaks is opened again, and the subscription goes on where the job then stands.
const token = process.env.JOBQL_TOKEN;
const connectionParams = token ? { authorization: `Bearer ${token}` } : {};
const client = createClient({ url, connectionParams, webSocketImpl: WebSocket, retryAttempts: 10 });

async function* run<Result, Variables extends Record<string, unknown>>(
  document: TypedDocumentNode<Result, Variables>,
  variables: Variables,
): AsyncGenerator<Result> {
  for await (const { data, errors } of client.iterate<Result>({ query: print(document), variables })) {
    if (errors) throw new Error(JSON.stringify(errors));
    if (data) yield data;
  }
}

const input = { kind: 'sum', payload: { start: 1, end: 4, pauseSeconds: 0.2 } };
let id: string | undefined;
for await (const { submitJob } of run(Submit, { input })) {
  id = submitJob.job.id;
  console.log('submitted', submitJob.job.displayName, id);
}
if (!id) throw new Error('nothing was submitted');

let last: unknown;
for await (const { jobUpdated } of run(Watch, { id })) {
  console.log(jobUpdated.version, jobUpdated.status, jobUpdated.progress?.fraction ?? '');
  last = jobUpdated.result;
}
if (JSON.stringify(last) !== '{"sum":10}') throw new Error(`the job ended with ${JSON.stringify(last)}`);
await client.dispose();
