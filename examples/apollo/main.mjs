// Submits a job with Apollo Client and watches it: queries and mutations by POST, the subscription as multipart on the
// same URL. The cache follows the subscription by the job's id.
//
//     npm install && node apollo/main.mjs http://127.0.0.1:8080/graphql
//
// JOBQL_TOKEN is sent where it is set.

import { ApolloClient, HttpLink, InMemoryCache, gql } from '@apollo/client';

const uri = process.argv[2] ?? 'http://127.0.0.1:8080/graphql';
const token = process.env.JOBQL_TOKEN;
const headers = token ? { authorization: `Bearer ${token}` } : {};
const client = new ApolloClient({ link: new HttpLink({ uri, headers }), cache: new InMemoryCache() });

const JOB = gql`
  fragment JobParts on Job {
    id
    version
    status
    result
  }
`;

const { data } = await client.mutate({
  mutation: gql`
    mutation Submit($input: SubmitJobInput!) {
      submitJob(input: $input) {
        job {
          ...JobParts
        }
      }
    }
    ${JOB}
  `,
  variables: { input: { kind: 'sum', payload: { start: 1, end: 4, pauseSeconds: 0.2 } } },
});
const { id } = data.submitJob.job;
console.log('submitted', id);

const updates = client.subscribe({
  query: gql`
    subscription Watch($id: ID!) {
      jobUpdated(id: $id) {
        ...JobParts
      }
    }
    ${JOB}
  `,
  variables: { id },
});
await new Promise((complete, error) => updates.subscribe({ next: ({ data }) => console.log(data.jobUpdated), complete, error }));

const cached = client.readFragment({ id: `Job:${id}`, fragment: JOB });
if (cached?.result?.sum !== 10) throw new Error(`the cache holds ${JSON.stringify(cached)}`);
console.log('the cache holds', cached.status, cached.result);
client.stop();
