// The API beside the browser: what the tests set up, and what they compare with.

import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { binary } from '../conformance/server.mjs';

export async function ask(server, query, variables = {}, token = null) {
  const headers = { 'content-type': 'application/json' };
  if (token) headers.authorization = `Bearer ${token}`;
  const response = await fetch(server.url, { method: 'POST', headers, body: JSON.stringify({ query, variables }) });
  const { data, errors } = await response.json();
  if (errors) throw new Error(JSON.stringify(errors));
  return data;
}

const SUBMIT = 'mutation ($inputs: [SubmitJobInput!]!) { submitJobs(inputs: $inputs) { job { id } } }';

/** Submits them, oldest first, and gives their ids. */
export async function submit(server, inputs, token = null) {
  const ids = [];
  for (let start = 0; start < inputs.length; start += 1_000) {
    const { submitJobs } = await ask(server, SUBMIT, { inputs: inputs.slice(start, start + 1_000) }, token);
    ids.push(...submitJobs.map(({ job }) => job.id));
  }
  return ids;
}

export function wait(server, id, token = null) {
  return ask(server, 'query ($id: ID!) { job(id: $id, waitSeconds: 25) { status version } }', { id }, token);
}

const SUBMIT_WORKFLOW = 'mutation ($input: SubmitWorkflowInput!) { submitWorkflow(input: $input) { id } }';

export async function submitWorkflow(server, input) {
  return (await ask(server, SUBMIT_WORKFLOW, { input })).submitWorkflow.id;
}

/** In a folder without a configuration; what it says to people comes with an error only. */
const QUIETLY = { cwd: tmpdir(), stdio: 'pipe' };

/** A token made on the command line, as an operator does it. */
export function newToken(server, ...flags) {
  return execFileSync(binary, ['token', 'create', ...flags, ...server.databaseFlags], { ...QUIETLY, encoding: 'utf8' }).trim();
}

/** Revokes the token that has this name. */
export function revokeToken(server, name) {
  const tokens = JSON.parse(execFileSync(binary, ['token', 'list', '--json', ...server.databaseFlags], { ...QUIETLY, encoding: 'utf8' }));
  const { id } = tokens.find((token) => token.name === name);
  execFileSync(binary, ['token', 'revoke', id, ...server.databaseFlags], QUIETLY);
}
