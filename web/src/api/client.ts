// The API's client: queries and mutations by urql over POST, subscriptions by graphql-ws over the socket.
//
// There is no cache: what is shown is live, and each page holds what it shows. Requests are sent and answers are read
// by an exchange of our own, because the usual one reads JSON with loss.

import {
  Client,
  type AnyVariables,
  type Exchange,
  type Operation,
  type OperationResult,
  makeErrorResult,
  makeResult,
  stringifyDocument,
} from '@urql/core';
import { filter, fromPromise, merge, mergeMap, pipe, share, takeUntil } from 'wonka';
import { noteServerDate } from './clock';
import type { TypedDocumentString } from './generated';
import { parseJson, printJson } from './json';
import { type Problem, problem, problemOf } from './problem';
import { socket } from './socket';

export const ENDPOINT = '/graphql';

let token: string | null = null;
let refused: () => void = () => {};

/** From now on requests bear this token; `whenRefused` hears of a 401. */
export function authorize(bearer: string | null, whenRefused: () => void): void {
  token = bearer;
  refused = whenRefused;
}

async function post(operation: Operation): Promise<OperationResult> {
  const headers: Record<string, string> = {
    'content-type': 'application/json',
    accept: 'application/graphql-response+json',
  };
  const bearer = token;
  if (bearer) headers.authorization = `Bearer ${bearer}`;
  const body = printJson({ query: stringifyDocument(operation.query), variables: operation.variables });
  try {
    const response = await fetch(ENDPOINT, { method: 'POST', headers, body });
    noteServerDate(response.headers.get('date'));
    if (response.status === 401 && bearer === token) refused();
    const answer = parseJson(await response.text()) as Parameters<typeof makeResult>[1];
    return makeResult(operation, answer, response);
  } catch (cause) {
    return makeErrorResult(operation, cause instanceof Error ? cause : new Error(String(cause)));
  }
}

const postExchange: Exchange =
  ({ forward }) =>
  (operations) => {
    const shared = share(operations);
    const isRequest = (operation: Operation) => operation.kind === 'query' || operation.kind === 'mutation';
    const answers = pipe(
      shared,
      filter(isRequest),
      mergeMap((operation) => {
        const tornDown = pipe(
          shared,
          filter((other) => other.kind === 'teardown' && other.key === operation.key),
        );
        return pipe(fromPromise(post(operation)), takeUntil(tornDown));
      }),
    );
    return merge([
      answers,
      pipe(
        shared,
        filter((operation) => !isRequest(operation)),
        forward,
      ),
    ]);
  };

const client = new Client({
  url: ENDPOINT,
  preferGetMethod: false,
  requestPolicy: 'network-only',
  exchanges: [postExchange],
});

export type Answer<D> = { data: D; problem: null } | { data: null; problem: Problem };

function answerOf<D>(result: OperationResult<D>): Answer<D> {
  if (result.error) return { data: null, problem: problemOf(result.error) };
  if (result.data == null) return { data: null, problem: problem("UNKNOWN", "The answer is empty.") };
  return { data: result.data, problem: null };
}

export async function query<D, V extends AnyVariables>(document: TypedDocumentString<D, V>, variables: V): Promise<Answer<D>> {
  return answerOf(await client.query<D, V>(document.toString(), variables).toPromise());
}

export async function mutate<D, V extends AnyVariables>(document: TypedDocumentString<D, V>, variables: V): Promise<Answer<D>> {
  return answerOf(await client.mutation<D, V>(document.toString(), variables).toPromise());
}

/**
 * Calls `next` with each event until the answer is called. It goes to the socket directly: urql folds two subscriptions
 * of the same text and variables into one, and hands what the old one still gets to the new one.
 */
export function subscribe<D, V extends AnyVariables>(document: TypedDocumentString<D, V>, variables: V, next: (data: D) => void): () => void {
  return socket().subscribe<D>(
    { query: document.toString(), variables: variables as Record<string, unknown> },
    {
      next: ({ data }) => {
        if (data) next(data);
      },
      // What cannot be watched is shown as it was read; a lost connection is watched anew by who watches.
      error: () => {},
      complete: () => {},
    },
  );
}
