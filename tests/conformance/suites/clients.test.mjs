// Clients as people use them, over each transport that they have: submit, page, await.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { PersistedQueryLink } from '@apollo/client/link/persisted-queries';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { Client, fetchExchange, subscriptionExchange } from '@urql/core';
import { createClient as createSseClient } from 'graphql-sse';
import { GraphQLClient } from 'graphql-request';
import { createClient as createWsClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { AWAIT, awaitByQuery, awaitByWatching, iterate, submitAndPage } from '../clients/flow.mjs';

const url = process.env.JOBQL_URL;
const wsUrl = process.env.JOBQL_WS_URL;

/** The one result of a query, of an iterator of results. */
const only = (results) => async (query, variables) => {
  for await (const { data, errors } of results({ query, variables })) {
    assert.equal(errors, undefined, JSON.stringify(errors));
    return data;
  }
};
const dataOf = (results) =>
  async function* (query, variables) {
    for await (const { data, errors } of results({ query, variables })) {
      assert.equal(errors, undefined, JSON.stringify(errors));
      yield data;
    }
  };

const conformance = join(dirname(fileURLToPath(import.meta.url)), '..');
const run = async (program, args, options) => (await promisify(execFile)(program, args, { timeout: 100_000, ...options })).stdout;

describe('clients', { concurrency: 6 }, () => {
  test('graphql-request', async () => {
    const client = new GraphQLClient(url);
    const run = (query, variables) => client.request(query, variables);
    await submitAndPage(run);
    await awaitByQuery(run);
    await assert.rejects(run('{ job(id: "x") { id } }'), (error) => {
      assert.equal(error.response.errors[0].extensions.code, 'BAD_USER_INPUT');
      return true;
    });
  });

  test('graphql-ws', async () => {
    const client = createWsClient({ url: wsUrl, webSocketImpl: WebSocket, lazy: false });
    const results = (request) => client.iterate(request);
    await submitAndPage(only(results));
    await awaitByQuery(only(results));
    await awaitByWatching(only(results), dataOf(results));
    await client.dispose();
  });

  test('graphql-sse', async () => {
    const client = createSseClient({ url, retryAttempts: 0 });
    const results = (request) => client.iterate(request);
    await submitAndPage(only(results));
    await awaitByQuery(only(results));
    await awaitByWatching(only(results), dataOf(results));
    client.dispose();
  });

  const urql = (options, exchanges = [fetchExchange]) => {
    const client = new Client({ url, exchanges, requestPolicy: 'network-only', preferGetMethod: false, ...options });
    const run = async (query, variables) => {
      const source = query.startsWith('mutation') ? client.mutation(query, variables) : client.query(query, variables);
      const { data, error } = await source.toPromise();
      if (error) throw error;
      return data;
    };
    const watch = async function* (query, variables) {
      const results = iterate((observer) => {
        const subscription = client.subscription(query, variables).subscribe((result) => {
          observer.next(result);
          if (result.hasNext === false || result.data?.jobUpdated?.status === 'DONE') observer.complete();
        });
        return () => subscription.unsubscribe();
      });
      for await (const { data, error } of results) {
        if (error) throw error;
        yield data;
      }
    };
    return { run, watch };
  };

  test('urql by POST, subscriptions as event streams', async () => {
    const { run, watch } = urql({ fetchSubscriptions: true });
    await submitAndPage(run);
    await awaitByQuery(run);
    await awaitByWatching(run, watch);
  });

  test('urql by GET', async () => {
    let gets = 0;
    const counted = (input, init) => {
      if (init.method === 'GET') gets += 1;
      return fetch(input, init);
    };
    const { run } = urql({ preferGetMethod: 'force', fetch: counted });
    await submitAndPage(run);
    await awaitByQuery(run);
    assert.equal(gets, 3, 'two pages and an await');
  });

  test('urql over a WebSocket', async () => {
    const ws = createWsClient({ url: wsUrl, webSocketImpl: WebSocket });
    const forwardSubscription = (request) => ({
      subscribe: (sink) => ({ unsubscribe: ws.subscribe({ ...request, query: request.query ?? '' }, sink) }),
    });
    const { run, watch } = urql({}, [
      subscriptionExchange({ enableAllOperations: true, forwardSubscription }),
    ]);
    await submitAndPage(run);
    await awaitByQuery(run);
    await awaitByWatching(run, watch);
    await ws.dispose();
  });

  const apollo = (link) => {
    const client = new ApolloClient({ link, cache: new InMemoryCache() });
    const run = async (query, variables) => {
      const document = gql(query);
      const { data } = query.startsWith('mutation')
        ? await client.mutate({ mutation: document, variables })
        : await client.query({ query: document, variables, fetchPolicy: 'network-only' });
      return data;
    };
    const watch = async function* (query, variables) {
      const results = iterate((observer) => {
        const subscription = client.subscribe({ query: gql(query), variables }).subscribe(observer);
        return () => subscription.unsubscribe();
      });
      for await (const { data, error } of results) {
        if (error) throw error;
        yield data;
      }
    };
    return { client, run, watch };
  };

  test('Apollo Client by POST, subscriptions as multipart, and its cache', async () => {
    const { client, run, watch } = apollo(new HttpLink({ uri: url }));
    await submitAndPage(run);
    await awaitByQuery(run);
    const done = await awaitByWatching(run, watch);
    // What the subscription told is the job that every query of this client shows.
    const fragment = gql('fragment Seen on Job { status version }');
    const cached = client.cache.readFragment({ id: `Job:${done.id}`, fragment });
    assert.deepEqual({ ...cached, __typename: undefined }, { __typename: undefined, status: 'DONE', version: done.version });
    client.stop();
  });

  test('Apollo Client over a WebSocket', async () => {
    const ws = createWsClient({ url: wsUrl, webSocketImpl: WebSocket });
    const { client, run, watch } = apollo(new GraphQLWsLink(ws));
    await submitAndPage(run);
    await awaitByQuery(run);
    await awaitByWatching(run, watch);
    client.stop();
    await ws.dispose();
  });

  test('Apollo Client with automatic persisted queries by GET', async () => {
    const sent = [];
    const spied = async (input, init) => {
      const response = await fetch(input, init);
      sent.push({ method: init.method, hasQuery: String(input).includes('query=') || /"query"/.test(init.body ?? '') });
      return response;
    };
    const sha256 = async (text) => createHash('sha256').update(text).digest('hex');
    const persisted = new PersistedQueryLink({ sha256, useGETForHashedQueries: true });
    const { client, run } = apollo(ApolloLink.from([persisted, new HttpLink({ uri: url, fetch: spied })]));
    const id = '00000000-0000-0000-0000-000000000000';
    // A document that nobody has sent before.
    const fresh = AWAIT.replace('Await', `Await${Date.now()}`);
    assert.equal((await run(fresh, { id })).job, null);
    assert.equal((await run(fresh, { id })).job, null);
    assert.deepEqual(sent.map(({ hasQuery }) => hasQuery), [false, true, false]);
    assert.equal(sent[2].method, 'GET');
    client.stop();
  });

  test('Python gql by POST and over both of its WebSockets', async () => {
    const said = await run(join(conformance, '.venv/bin/python'), [join(conformance, 'clients/python_gql.py'), url]);
    for (const transport of ['AIOHTTPTransport', 'WebsocketsTransport', 'AIOHTTPWebsocketsTransport']) {
      assert.match(said, new RegExp(`^${transport}: submitted, paged, awaited$`, 'm'));
    }
  });

  test('ariadne-codegen by POST and over a WebSocket', async () => {
    const folder = join(conformance, 'clients/ariadne');
    mkdirSync(join(conformance, 'generated'), { recursive: true });
    await run(join(conformance, '.venv-ariadne/bin/ariadne-codegen'), [], { cwd: folder });
    const said = await run(join(conformance, '.venv-ariadne/bin/python'), [join(folder, 'flow.py'), url]);
    assert.match(said, /submitted, paged, awaited/);
  });
});
