// Validation: graphql-js says which documents are valid, and jobql must say the same. Each difference is listed with its
// reason, here and in docs/transports.md, and must really be there.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildSchema, parse, validate } from 'graphql';
import { repository } from '../server.mjs';

const schema = buildSchema(readFileSync(join(repository, 'schema.graphql'), 'utf8'));
const id = '"00000000-0000-0000-0000-000000000000"';

/** Documents, some with the variables that execution needs. */
const corpus = [
  // Operations and names.
  '{ jobKinds { name } }',
  'query a { jobKinds { name } }',
  'query a { jobKinds { name } } query a { jobKinds { queue } }',
  'query a { jobKinds { name } } { jobKinds { queue } }',
  'subscription { jobUpdated { id } jobUpdated { status } }',
  'subscription { a: jobUpdated { id } b: jobUpdated { id } }',
  'subscription { ...F } fragment F on Subscription { a: jobUpdated { id } b: jobUpdated { id } }',
  'subscription { __typename }',
  'query a { jobKinds { name } } query b { nothing }',
  'query a { nothing } query b { jobKinds { name } }',
  'query a { jobKinds { ...F } } query b { jobKinds { ...G } } fragment F on JobKind { name } fragment G on JobKind { queue }',
  'query a { jobKinds { ...F } } query b { jobKinds { queue } } fragment F on JobKind { name } fragment G on JobKind { queue }',
  'fragment F on Job { id }',
  'type Query { a: Int }',
  '{ jobKinds { name } } type X { a: Int }',
  // Fields.
  '{ nothing }',
  '{ __typename }',
  '{ jobKinds { __typename name } }',
  '{ jobKinds }',
  '{ jobKinds { name { length } } }',
  '{ jobKinds { name {} } }',
  `{ job(id: ${id}) { payload { a } } }`,
  `{ job(id: ${id}) { error { code details } progress { fraction } } }`,
  `{ node(id: ${id}) { id } }`,
  `{ node(id: ${id}) { status } }`,
  `{ node(id: ${id}) { __typename ... on Job { status } } }`,
  '{ __schema { queryType { name } } __type(name: "Job") { kind } }',
  '{ __schema { nothing } }',
  '{ __type { kind } }',
  // Arguments.
  '{ job { id } }',
  '{ job(id: null) { id } }',
  '{ job(id: 1) { id } }',
  '{ job(id: 1.5) { id } }',
  '{ job(id: true) { id } }',
  '{ job(id: ENUM) { id } }',
  `{ job(id: ${id}, id: ${id}) { id } }`,
  `{ job(id: ${id}, more: 1) { id } }`,
  '{ jobs(first: 1) { totalCount } }',
  '{ jobs(first: "1") { totalCount } }',
  '{ jobs(first: 1.0) { totalCount } }',
  '{ jobs(first: 2147483647) { __typename } }',
  '{ jobs(first: 2147483648) { __typename } }',
  '{ jobs(first: null, status: null) { totalCount } }',
  '{ jobs(status: DONE) { totalCount } }',
  '{ jobs(status: [DONE, ERROR]) { totalCount } }',
  '{ jobs(status: ["DONE"]) { totalCount } }',
  '{ jobs(status: "DONE") { totalCount } }',
  '{ jobs(status: [NOTHING]) { totalCount } }',
  '{ jobs(status: [null]) { totalCount } }',
  '{ jobs(kind: "a") { totalCount } }',
  '{ jobs(kind: [1]) { totalCount } }',
  '{ jobs(createdAfter: "2026-01-01T00:00:00Z") { totalCount } }',
  // Input objects.
  'mutation { submitJob(input: {kind: "none"}) { created } }',
  'mutation { submitJob(input: {}) { created } }',
  'mutation { submitJob(input: {kind: null}) { created } }',
  'mutation { submitJob(input: {kind: "none", kind: "none"}) { created } }',
  'mutation { submitJob(input: {kind: "none", more: 1}) { created } }',
  'mutation { submitJob(input: {kind: "none", payload: null}) { created } }',
  'mutation { submitJob(input: {kind: "none", payload: {a: [1, "b", {c: true}]}}) { created } }',
  'mutation { submitJob(input: {kind: "none", priority: "1"}) { created } }',
  'mutation { submitJob(input: [{kind: "none"}]) { created } }',
  'mutation { submitJobs(inputs: {kind: "none"}) { created } }',
  'mutation { submitJobs(inputs: [{kind: 1}]) { created } }',
  // Fragments.
  '{ jobKinds { ...F } } fragment F on JobKind { name }',
  '{ jobKinds { ...F } }',
  '{ jobKinds { name } } fragment F on JobKind { name }',
  '{ jobKinds { ...F } } fragment F on Job { id }',
  '{ jobKinds { ...F } } fragment F on Nothing { id }',
  '{ jobKinds { ...F } } fragment F on JobStatus { id }',
  '{ jobKinds { ...F } } fragment F on JobKind { ...F }',
  '{ jobKinds { ...F } } fragment F on JobKind { name ...G } fragment G on JobKind { queue ...F }',
  '{ jobKinds { ...F } } fragment F on JobKind { name } fragment F on JobKind { queue }',
  '{ jobKinds { ... { name } ... on JobKind { queue } } }',
  '{ jobKinds { ... on Job { id } } }',
  `{ node(id: ${id}) { ... on JobKind { name } } }`,
  `{ job(id: ${id}) { ... on Node { id } } }`,
  // Merging.
  '{ jobKinds { name name } }',
  '{ jobKinds { name: queue name } }',
  `{ job(id: ${id}) { id } job(id: "x") { id } }`,
  `{ job(id: ${id}) { id } ...F } fragment F on Query { job(id: "x") { id } }`,
  `{ a: job(id: ${id}) { id } ...F } fragment F on Query { ...G } fragment G on Query { a: job(id: "x") { id } }`,
  '{ jobKinds { a: name } ...F } fragment F on Query { jobKinds { a: queue } }',
  `{ job(id: ${id}) { id } job(id: ${id}) { status } }`,
  // Directives.
  '{ jobKinds @include(if: true) { name } }',
  '{ jobKinds @include { name } }',
  '{ jobKinds @include(if: 1) { name } }',
  '{ jobKinds @nothing { name } }',
  '{ jobKinds { name @skip(if: true) @skip(if: false) queue } }',
  'query @include(if: true) { jobKinds { name } }',
  '{ jobKinds { __typename @include(if: true) } }',
  '{ jobKinds { __typename @nothing } }',
  '{ jobKinds { ...F @include(if: true) } } fragment F on JobKind { name }',
  'query ($a: Int @include(if: true)) { jobs(first: $a) { totalCount } }',
  // Variables.
  ['query ($a: ID!) { job(id: $a) { id } }', { a: '00000000-0000-0000-0000-000000000000' }],
  'query ($a: Int) { jobs(first: $a) { totalCount } }',
  'query ($a: Int) { jobKinds { name } }',
  '{ jobs(first: $a) { totalCount } }',
  'query ($a: Int, $a: Int) { jobs(first: $a) { totalCount } }',
  'query ($a: String) { jobs(first: $a) { totalCount } }',
  'query ($a: Nothing) { jobs(first: $a) { totalCount } }',
  'query ($a: Job) { jobs(first: $a) { totalCount } }',
  'query ($a: Int = "x") { jobs(first: $a) { totalCount } }',
  'query ($a: Int = 1) { jobs(first: $a) { totalCount } }',
  'query ($a: Int! = 1) { jobs(first: $a) { totalCount } }',
  'query ($a: Int! = null) { jobs(first: $a) { totalCount } }',
  'query ($a: ID) { job(id: $a) { id } }',
  `query ($a: ID = ${id}) { job(id: $a) { id } }`,
  'query ($a: JobStatus) { jobs(status: [$a]) { totalCount } }',
  ['query ($a: JobStatus!) { jobs(status: [$a]) { totalCount } }', { a: 'DONE' }],
  'query ($a: JobStatus) { jobs(status: $a) { totalCount } }',
  ['query ($a: [JobStatus!]) { jobs(status: $a) { totalCount } }', { a: 'DONE' }],
  'query ($a: [JobStatus]) { jobs(status: $a) { totalCount } }',
  'mutation ($a: JSON) { submitJob(input: {kind: "none", payload: $a}) { created } }',
  ['mutation ($a: JSON!) { submitJob(input: {kind: "none", payload: $a}) { created } }', { a: {} }],
  ['mutation ($a: JSON!) { submitJob(input: {kind: "none", payload: {b: $a}}) { created } }', { a: {} }],
  'mutation ($a: String) { submitJob(input: {kind: $a}) { created } }',
  'mutation ($a: Int) { submitJob(input: {kind: "none", requestId: $a}) { created } }',
  ['query ($a: Boolean!) { jobKinds { name @include(if: $a) } }', { a: true }],
  ['query ($a: Boolean!) { jobKinds { __typename @include(if: $a) } }', { a: true }],
  ['query ($a: Boolean!) { jobKinds @skip(if: $a) { __typename @include(if: $a) } }', { a: true }],
  'query ($a: Boolean) { jobKinds { name @include(if: $a) } }',
  ['query ($a: Boolean! = true) { jobKinds { ...F @include(if: $a) } } fragment F on JobKind { name }', {}],
  'query ($a: Int) { ...F } fragment F on Query { jobs(first: $a) { totalCount } }',
  '{ ...F } fragment F on Query { jobs(first: $a) { totalCount } }',
  'query ($a: String) { ...F } fragment F on Query { jobs(first: $a) { totalCount } }',
  'query a($a: Int) { ...F } query b { ...F } fragment F on Query { jobs(first: $a) { totalCount } }',
].map((given) => (Array.isArray(given) ? given : [given, {}]));

/** Document to the reason why jobql says otherwise. */
const differences = {
  'subscription { jobUpdated { id } jobUpdated { status } }':
    'two selections of the one root field are valid and merge into one; jobql refuses them, as the engine would run both',
  'query a { jobKinds { name } } query b { nothing }':
    'only the operation that is asked for is validated against the schema; the rules for variables hold for all',
};

async function valid(query, variables) {
  const operationName = /\b(?:query|mutation|subscription) (\w+)/.exec(query)?.[1];
  const answer = await fetch(process.env.JOBQL_URL, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: query.startsWith('subscription') ? 'text/event-stream' : 'application/json' },
    body: JSON.stringify({ query, variables, ...(operationName ? { operationName } : {}) }),
  });
  let body;
  if (answer.headers.get('content-type').startsWith('text/event-stream')) {
    // A subscription that is valid goes on for ever; one that is not says so at once.
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    let text = '';
    for (;;) {
      const chunk = await Promise.race([reader.read(), new Promise((go) => setTimeout(go, 500, { done: true }))]);
      if (chunk.done) break;
      text += decoder.decode(chunk.value);
    }
    await reader.cancel();
    body = JSON.parse(/^data: (.+)$/m.exec(text)?.[1] ?? '{"data":{}}');
  } else body = await answer.json();
  return { valid: 'data' in body, body };
}

function byGraphqlJs(query) {
  try {
    return validate(schema, parse(query));
  } catch (error) {
    return [error];
  }
}

describe('as graphql-js validates', { concurrency: 8 }, () => {
  for (const [query, variables] of corpus) {
    test(query, async () => {
      const errors = byGraphqlJs(query);
      const ours = await valid(query, variables);
      const agrees = (errors.length === 0) === ours.valid;
      const said = `graphql-js: ${errors.map(String).join('; ') || 'valid'}\njobql: ${JSON.stringify(ours.body)}`;
      if (query in differences) assert.ok(!agrees, `the difference is gone; take it off the list\n${said}`);
      else assert.ok(agrees, said);
    });
  }
});

test('the corpus is large, and every listed difference is in it', () => {
  assert.ok(corpus.length >= 60, `${corpus.length}`);
  assert.equal(new Set(corpus.map(([query]) => query)).size, corpus.length);
  assert.deepEqual(Object.keys(differences).filter((query) => !corpus.some(([known]) => known === query)), []);
});
