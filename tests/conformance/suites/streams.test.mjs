// Server-sent events (graphql-sse, distinct connections) and Apollo's multipart: the form, and that events arrive when
// they happen, not one later.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { CANCEL, SUBMIT, WATCH, events, openStream, parts, request, waitingJob } from '../streams.mjs';

const url = process.env.JOBQL_URL;
const SSE = 'text/event-stream';
const MULTIPART = 'multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/graphql-response+json,application/json;q=0.9';
/** Longer than any event takes, shorter than the 12 s after which a heartbeat would push an event out. */
const AT_ONCE = 4_000;
const last = (list) => list[list.length - 1];

describe('streams', { concurrency: 8 }, () => {
  for (const method of ['POST', 'GET']) {
    test(`server-sent events by ${method} arrive when they happen`, async () => {
      const id = await waitingJob(url);
      const stream = await openStream(url, SSE, { query: WATCH, variables: { id } }, { method });
      assert.equal(stream.response.status, 200);
      assert.equal(stream.response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
      assert.match(stream.response.headers.get('cache-control'), /no-store/);
      assert.equal(stream.response.headers.get('vary'), 'Accept');
      await stream.until((text) => events(text).length === 1, AT_ONCE, 'the state as it is');
      assert.equal(events(stream.text())[0].event, 'next');
      assert.equal(events(stream.text())[0].data.data.jobUpdated.status, 'SCHEDULED');
      await request(url, CANCEL, { id });
      await stream.until((text) => events(text).length === 3, AT_ONCE, 'the end');
      const [, terminal, complete] = events(await stream.ended());
      assert.equal(terminal.data.data.jobUpdated.status, 'CANCELLED');
      assert.deepEqual(complete, { event: 'complete', hasData: true });
    });
  }

  test('multipart parts arrive when they happen', async () => {
    const id = await waitingJob(url);
    const stream = await openStream(url, MULTIPART, { query: WATCH, variables: { id } });
    assert.equal(stream.response.status, 200);
    assert.equal(stream.response.headers.get('content-type'), 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0');
    await stream.until((text) => parts(text).length === 1, AT_ONCE, 'the state as it is');
    assert.equal(parts(stream.text())[0].payload.data.jobUpdated.status, 'SCHEDULED');
    await request(url, CANCEL, { id });
    await stream.until((text) => parts(text).length === 2, AT_ONCE, 'the end');
    const text = await stream.ended();
    assert.equal(last(parts(text)).payload.data.jobUpdated.status, 'CANCELLED');
    assert.ok(text.endsWith('\r\n--graphql--\r\n'), text);
  });

  test('a compressing client gets its events at once too', async () => {
    const id = await waitingJob(url);
    const abort = new AbortController();
    const response = await fetch(url, {
      method: 'POST',
      headers: { accept: SSE, 'accept-encoding': 'gzip, br', 'content-type': 'application/json' },
      body: JSON.stringify({ query: WATCH, variables: { id } }),
      signal: abort.signal,
    });
    assert.equal(response.headers.get('content-encoding'), null);
    abort.abort();
  });

  test('queries and mutations run as event streams for who accepts nothing else', async () => {
    const query = await openStream(url, SSE, { query: '{ __typename }' });
    const queried = events(await query.ended());
    assert.deepEqual(queried.map((event) => event.event), ['next', 'complete']);
    assert.deepEqual(queried[0].data, { data: { __typename: 'Query' } });
    const mutation = await openStream(url, SSE, { query: SUBMIT, variables: { input: { kind: 'echo' } } });
    assert.equal(events(await mutation.ended())[0].data.data.submitJob.created, true);
  });

  test('a plain query is never a stream for who accepts an answer too', async () => {
    const accept = 'application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed';
    const answer = await fetch(url, {
      method: 'POST',
      headers: { accept, 'content-type': 'application/json' },
      body: JSON.stringify({ query: '{ __typename }' }),
    });
    assert.match(answer.headers.get('content-type'), /^application\/graphql-response\+json/);
    await answer.text();
  });

  for (const [what, query] of [
    ['a syntax error', '{'],
    ['a validation error', 'subscription { nothing }'],
    ['a missing variable', WATCH],
    ['two root fields', 'subscription { a: jobUpdated { id } b: jobUpdated { id } }'],
  ]) {
    test(`${what} stands inside the stream`, async () => {
      const stream = await openStream(url, SSE, { query });
      assert.equal(stream.response.status, 200);
      const told = events(await stream.ended());
      assert.deepEqual(told.map((event) => event.event), ['next', 'complete']);
      assert.match(told[0].data.errors[0].extensions.code, /^GRAPHQL_/);
      assert.ok(!('data' in told[0].data));
    });
  }

  test('a request that is none gets its status, not a stream', async () => {
    const headers = { accept: SSE, 'content-type': 'application/json' };
    assert.equal((await fetch(url, { method: 'POST', headers, body: '{' })).status, 400);
    assert.equal((await fetch(url, { method: 'PUT', headers, body: '{}' })).status, 405);
    assert.equal((await fetch(`${url}?query=mutation{__typename}`, { headers })).status, 405);
    assert.equal((await fetch(url, { method: 'POST', headers: { accept: SSE }, body: '{}' })).status, 415);
  });

  test('a quiet stream or socket says every 12 s that it lives', async () => {
    const id = await waitingJob(url);
    const socket = new WebSocket(process.env.JOBQL_WS_URL, ['graphql-transport-ws']);
    const pinged = new Promise((done) => socket.on('ping', done));
    socket.on('open', () => socket.send('{"type":"connection_init"}'));
    const began = Date.now();
    const [sse, multipart] = await Promise.all([
      openStream(url, SSE, { query: WATCH, variables: { id } }),
      openStream(url, MULTIPART, { query: WATCH, variables: { id } }),
    ]);
    await Promise.all([
      // The first comment opens the stream.
      sse.until((text) => text.split(':\n\n').length === 3, 14_000, 'a comment'),
      multipart.until((text) => parts(text).some((part) => Object.keys(part).length === 0), 14_000, 'a heartbeat'),
      pinged,
    ]);
    assert.ok(Date.now() - began > 11_000, 'not before its time');
    sse.close();
    multipart.close();
    socket.terminate();
    await request(url, CANCEL, { id });
  });
});
