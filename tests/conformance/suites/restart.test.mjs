// A server that restarts: clients come back by themselves and miss no terminal state.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ApolloClient, InMemoryCache, gql } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { Client, fetchExchange, subscriptionExchange } from '@urql/core';
import { createClient as createSseClient } from 'graphql-sse';
import { createClient as createWsClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { SUBMIT, WATCH, iterate } from '../clients/flow.mjs';
import { Server } from '../server.mjs';
import { request } from '../streams.mjs';

describe('after a restart', { concurrency: false }, () => {
  let server;
  before(async () => {
    server = await new Server(['--slots', '16', '--drain-seconds', '0', '--lease-seconds', '5']).start();
  });
  after(() => server.remove());

  const retry = { retryAttempts: 100, shouldRetry: () => true, retryWait: () => new Promise((go) => setTimeout(go, 200)) };
  const watchers = {
    'graphql-ws': (id) => createWsClient({ url: server.wsUrl, webSocketImpl: WebSocket, ...retry }).iterate({ query: WATCH, variables: { id } }),
    'graphql-sse': (id) => {
      const sse = { url: server.url, retryAttempts: 100, retry: () => new Promise((go) => setTimeout(go, 200)) };
      return createSseClient(sse).iterate({ query: WATCH, variables: { id } });
    },
    'Apollo Client': (id) => {
      const link = new GraphQLWsLink(createWsClient({ url: server.wsUrl, webSocketImpl: WebSocket, ...retry }));
      const client = new ApolloClient({ link, cache: new InMemoryCache() });
      return iterate((observer) => {
        const subscription = client.subscribe({ query: gql(WATCH), variables: { id } }).subscribe(observer);
        return () => subscription.unsubscribe();
      });
    },
    urql: (id) => {
      const ws = createWsClient({ url: server.wsUrl, webSocketImpl: WebSocket, ...retry });
      const forwardSubscription = (operation) => ({
        subscribe: (sink) => ({ unsubscribe: ws.subscribe({ ...operation, query: operation.query ?? '' }, sink) }),
      });
      const client = new Client({
        url: server.url,
        preferGetMethod: false,
        exchanges: [fetchExchange, subscriptionExchange({ forwardSubscription })],
      });
      return iterate((observer) => {
        const subscription = client.subscription(WATCH, { id }).subscribe((result) => {
          observer.next(result);
          if (result.data?.jobUpdated?.status === 'DONE') observer.complete();
        });
        return () => subscription.unsubscribe();
      });
    },
  };

  for (const signal of ['SIGTERM', 'SIGKILL']) {
    test(`by ${signal}, every client sees the end of its job`, async () => {
      const jobs = await Promise.all(
        Object.entries(watchers).map(async ([name, watch]) => {
          const input = { kind: 'sum', payload: { start: 1, end: 8, pauseSeconds: 0.5 }, priority: 1 };
          const id = (await request(server.url, SUBMIT, { input })).submitJob.job.id;
          const seen = [];
          let first;
          const begun = new Promise((go) => (first = go));
          const ended = (async () => {
            for await (const { data, errors, error } of watch(id)) {
              assert.ok(!errors && !error, `${name}: ${JSON.stringify(errors ?? String(error))}`);
              seen.push(data.jobUpdated);
              first();
            }
          })();
          await Promise.race([begun, ended]);
          return { name, id, seen, ended };
        }),
      );
      await server.stop(signal);
      await server.start();
      for (const { name, id, seen, ended } of jobs) {
        let timer;
        const late = new Promise((_, fail) => (timer = setTimeout(() => fail(new Error(`${name} never saw the end`)), 60_000)));
        await Promise.race([ended, late]);
        clearTimeout(timer);
        assert.equal(seen.at(-1).status, 'DONE', name);
        assert.deepEqual(seen.at(-1).result, { sum: 36 });
        assert.ok(seen.every((job) => job.id === id));
      }
    });
  }
});
