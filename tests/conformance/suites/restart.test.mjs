// A server that restarts: clients come back by themselves and miss no terminal state.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ApolloClient, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { Client, fetchExchange, subscriptionExchange } from '@urql/core';
import { GraphQLClient } from 'graphql-request';
import { createClient as createSseClient } from 'graphql-sse';
import { createClient as createWsClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { AWAIT, SUBMIT, WATCH, iterate } from '../clients/flow.mjs';
import { Server, binary } from '../server.mjs';
import { request } from '../streams.mjs';

const conformance = join(dirname(fileURLToPath(import.meta.url)), '..');
const READ = 'query Read($id: ID!) { job(id: $id) { status result } }';
const pause = () => new Promise((go) => setTimeout(go, 200));

/** Watches again, as an application does whose client does not do so by itself, until the end was seen. */
async function* again(watch) {
  for (;;) {
    try {
      for await (const result of watch()) {
        if (result.error || result.errors) break;
        yield result;
        if (result.data.jobUpdated.status === 'DONE') return;
      }
    } catch {
      // The server is away.
    }
    await pause();
  }
}

/** What a program says of a job, line by line; it ends once it has seen the end. */
async function* program(command, args, read) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = new Promise((done) => child.once('exit', done));
  for await (const line of createInterface({ input: child.stdout })) {
    const result = read(line);
    if (result) yield result;
  }
  assert.equal(await ended, 0, command);
}

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
    'Apollo Client by multipart': (id) =>
      again(() => {
        const client = new ApolloClient({ link: new HttpLink({ uri: server.url }), cache: new InMemoryCache() });
        return iterate((observer) => {
          const subscription = client.subscribe({ query: gql(WATCH), variables: { id } }).subscribe(observer);
          return () => subscription.unsubscribe();
        });
      }),
    'urql by event streams': (id) =>
      again(() => {
        const client = new Client({
          url: server.url,
          preferGetMethod: false,
          fetchSubscriptions: true,
          exchanges: [fetchExchange],
        });
        return iterate((observer) => {
          const subscription = client.subscription(WATCH, { id }).subscribe((result) => {
            observer.next(result);
            if (result.hasNext === false) observer.complete();
          });
          return () => subscription.unsubscribe();
        });
      }),
    'graphql-request': (id) =>
      again(async function* () {
        // It is there once it has read the job, and then waits for the end.
        for (const query of [READ, AWAIT]) {
          const { job } = await new GraphQLClient(server.url).request(query, { id });
          yield { data: { jobUpdated: { ...job, id } } };
        }
      }),
    curl: (id) =>
      again(() => {
        const query = JSON.stringify({ query: WATCH, variables: { id } });
        const headers = ['-H', 'content-type: application/json', '-H', 'accept: text/event-stream'];
        const read = (line) => (line.startsWith('data: {') ? JSON.parse(line.slice(6)) : undefined);
        return program('curl', ['-sN', server.url, ...headers, '-d', query], read);
      }),
    'Python gql': (id) => program(join(conformance, '.venv/bin/python'), [join(conformance, 'clients/python_gql.py'), server.url, id], JSON.parse),
    'ariadne-codegen': (id) =>
      program(join(conformance, '.venv-ariadne/bin/python'), [join(conformance, 'clients/ariadne/flow.py'), server.url, id], JSON.parse),
    'Rust graphql-ws-client': (id) =>
      program(join(dirname(binary), 'examples/submit_and_watch'), [server.url, id], (line) => {
        const [, status, result] = /^\d+ (\w+) (.*)$/.exec(line);
        return { data: { jobUpdated: { id, status, result: JSON.parse(result) } } };
      }),
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
      // One job for all: a job that has lost its worker runs alone, so that one for each would run one after the other.
      const input = { kind: 'sum', payload: { start: 1, end: 8, pauseSeconds: 1.5 }, priority: 1 };
      const id = (await request(server.url, SUBMIT, { input })).submitJob.job.id;
      const follows = Object.entries(watchers).map(([name, watch]) => {
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
        return { name, seen, begun: Promise.race([begun, ended]), ended };
      });
      await Promise.all(follows.map(({ begun }) => begun));
      for (const { name, seen } of follows) assert.notEqual(seen.at(-1).status, 'DONE', `${name} was there before the end`);
      await server.stop(signal);
      await server.start();
      for (const { name, seen, ended } of follows) {
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
