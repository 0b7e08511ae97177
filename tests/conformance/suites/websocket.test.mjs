// graphql-transport-ws, frame by frame: the same frames go to jobql and to the server of npm graphql-ws, and what comes
// back must be the same. Each difference is intended, listed here with its reason, and must really be there.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildSchema } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocket, WebSocketServer } from 'ws';
import { repository } from '../server.mjs';

const SUBPROTOCOL = 'graphql-transport-ws';
const init = { type: 'connection_init' };
const subscribe = (id, query, more = {}) => ({ id, type: 'subscribe', payload: { query, ...more } });
const kinds = '{ jobKinds { name } }';
const feed = 'subscription { jobUpdated { id } }';

let theirs;

/** What comes back for these frames, until the socket is closed or quiet. */
function transcript(url, { frames, protocol = SUBPROTOCOL, quiet = 700 }) {
  return new Promise((done, failed) => {
    const socket = new WebSocket(url, protocol ? [protocol] : []);
    const heard = [];
    let timer;
    const finish = () => {
      clearTimeout(timer);
      socket.terminate();
      done([...heard]);
    };
    const again = () => {
      clearTimeout(timer);
      timer = setTimeout(finish, quiet);
    };
    socket.on('open', async () => {
      again();
      for (const frame of frames) {
        if (socket.readyState !== WebSocket.OPEN) break;
        if (typeof frame === 'number') await new Promise((go) => setTimeout(go, frame));
        else if (frame?.binary) socket.send(Buffer.from(frame.binary), { binary: true });
        else if (frame?.bytes) socket.send(Buffer.from(frame.bytes), { binary: false });
        else socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
        // Their server takes a frame that follows at once for one before its acknowledgement.
        if (frame?.type === 'connection_init') await Promise.race([answered, new Promise((go) => setTimeout(go, 300))]);
        again();
      }
    });
    let answer;
    const answered = new Promise((done) => (answer = done));
    socket.on('message', (data) => {
      answer();
      heard.push(told(JSON.parse(data)));
      again();
    });
    socket.on('close', (code, reason) => {
      // Reasons of these say what is wrong, each in its own words.
      heard.push({ close: code, ...(code === 4400 || code < 3000 ? {} : { reason: String(reason) }) });
      finish();
    });
    socket.on('error', (error) => failed(error));
  });
}

/** A message without the wording of its errors, and without its key order. */
function told(message) {
  const errors = (list) => list.map((error) => (typeof error.message === 'string' ? 'error' : error));
  const { id, type, payload, ...rest } = message;
  if (type === 'error') return { id, type, payload: errors(payload), ...rest };
  if (payload?.errors) return { id, type, payload: { ...payload, errors: errors(payload.errors) }, ...rest };
  return { ...(id === undefined ? {} : { id }), type, ...(payload === undefined ? {} : { payload }), ...rest };
}

const cases = {
  'an init is acknowledged': [init],
  'an init with a payload': [{ ...init, payload: { token: 'x' } }],
  'no init closes after 3 s': { frames: [], quiet: 5000 },
  'a second init': [init, init],
  'subscribe before init': [subscribe('1', kinds)],
  'ping before init': [{ type: 'ping' }],
  'ping with a payload': [init, { type: 'ping', payload: { a: [1, null] } }],
  'pong without a ping': [init, { type: 'pong' }, { type: 'pong', payload: { a: 1 } }],
  'no subprotocol': { frames: [], protocol: null },
  'not JSON': [init, '{'],
  'a JSON array': [init, '[]'],
  'no type': [init, '{}'],
  'an unknown type': [init, { type: 'start', id: '1', payload: {} }],
  'a message of the server': [init, { type: 'next', id: '1', payload: { data: {} } }],
  'a connection_ack': [init, { type: 'connection_ack' }],
  'subscribe without an id': [init, { type: 'subscribe', payload: { query: kinds } }],
  'subscribe with an empty id': [init, subscribe('', kinds)],
  'subscribe with a number as id': [init, subscribe(1, kinds)],
  'subscribe without a payload': [init, { id: '1', type: 'subscribe' }],
  'subscribe without a query': [init, { id: '1', type: 'subscribe', payload: {} }],
  'query is no string': [init, subscribe('1', 1)],
  'variables are no object': [init, subscribe('1', kinds, { variables: 1 })],
  'variables are null': [init, subscribe('1', kinds, { variables: null, operationName: null, extensions: null })],
  'variables are a list': [init, subscribe('1', kinds, { variables: [] })],
  'operationName is no string': [init, subscribe('1', kinds, { operationName: 1 })],
  'extensions are no object': [init, subscribe('1', kinds, { extensions: 1 })],
  'complete without an id': [init, { type: 'complete' }],
  'complete of nothing': [init, { type: 'complete', id: '1' }],
  'complete before init': [{ type: 'complete', id: '1' }],
  'ping with a list as payload': [init, { type: 'ping', payload: [] }],
  'an init with null as payload': [{ ...init, payload: null }],
  'an init with a text as payload': [{ ...init, payload: 'x' }],
  'a query': [init, subscribe('1', kinds)],
  'a query with a named operation': [init, subscribe('a', `query a ${kinds} query b { __typename }`, { operationName: 'b' })],
  'a query with a variable': [init, subscribe('1', 'query ($on: Boolean!) { __typename @include(if: $on) }', { variables: { on: true } })],
  'two queries': [init, subscribe('1', kinds), 150, subscribe('2', '{ __typename }')],
  'an id used again after its end': [init, subscribe('1', kinds), 150, subscribe('1', '{ __typename }')],
  'an id in use': [init, subscribe('1', feed), 150, subscribe('1', feed)],
  'an id used again after a complete': [init, subscribe('1', feed), 150, { type: 'complete', id: '1' }, 150, subscribe('1', kinds)],
  'a complete is not echoed': [init, subscribe('1', feed), 150, { type: 'complete', id: '1' }],
  'a syntax error': [init, subscribe('1', '{')],
  'an unknown field': [init, subscribe('1', '{ nothing }')],
  'two operations and no name': [init, subscribe('1', `query a ${kinds} query b ${kinds}`)],
  'a name that no operation has': [init, subscribe('1', `query a ${kinds}`, { operationName: 'b' })],
  'an empty document': [init, subscribe('1', '')],
  'a subscription of two root fields': [init, subscribe('1', 'subscription { a: jobUpdated { id } b: jobUpdated { id } }')],
  'a subscription that is refused when it starts': [init, subscribe('1', 'subscription { jobUpdated(id: "x") { id } }')],
  'a mutation that fails': [init, subscribe('1', 'mutation { cancelJob(id: "x") { id } }')],
  'a missing variable': [init, subscribe('1', 'query ($id: ID!) { job(id: $id) { id } }')],
  'an ill-typed variable': [init, subscribe('1', 'query ($id: ID!) { job(id: $id) { id } }', { variables: { id: {} } })],
  'an error leaves the socket open': [init, subscribe('1', '{'), 100, subscribe('2', '{ __typename }')],
  'a binary message': [init, { binary: JSON.stringify({ type: 'ping' }) }],
  'text that is no UTF-8': [init, { bytes: [0x22, 0xff, 0x22] }],
  'a message of 2 MiB': [init, { type: 'ping', payload: { a: 'x'.repeat(2 << 20) } }],
  'a key that stands twice': [init, '{"type":"ping","type":"ping"}'],
};

/** Case to the reason why jobql differs, and what it answers. */
const ack = { type: 'connection_ack' };
const refused = { id: '1', type: 'error', payload: ['error'] };
const intended = {
  'a missing variable': {
    why: 'a request error, as the specification of GraphQL has it: nothing was executed, so it is no result',
    ours: [ack, refused],
  },
  'an ill-typed variable': { why: 'as above', ours: [ack, refused] },
  'a syntax error': {
    why: 'their server closes with 4500, and takes all operations of the socket down; the fault is that of one',
    ours: [ack, refused],
  },
  'an empty document': { why: 'as above', ours: [ack, refused] },
  'an error leaves the socket open': {
    why: 'as above',
    ours: [
      ack,
      refused,
      { id: '2', type: 'next', payload: { data: { __typename: 'Query' } } },
      { id: '2', type: 'complete' },
    ],
  },
  'a message of the server': {
    why: 'their 4500 stands for a fault of the server; this is one of the client',
    ours: [ack, { close: 4400 }],
  },
  'a connection_ack': { why: 'as above', ours: [ack, { close: 4400 }] },
  'a subscription that is refused when it starts': {
    why: 'execution had begun, so data stands beside the errors, as null',
    ours: [
      ack,
      { id: '1', type: 'next', payload: { data: null, errors: ['error'] } },
      { id: '1', type: 'complete' },
    ],
  },
  'a binary message': { why: 'the protocol is one of text', ours: [ack, { close: 4400 }] },
};

describe('as the server of graphql-ws does', { concurrency: 8 }, () => {
  before(async () => {
    const answer = await fetch(process.env.JOBQL_URL, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query: kinds }),
    });
    const { jobKinds } = (await answer.json()).data;
    const schema = buildSchema(readFileSync(join(repository, 'schema.graphql'), 'utf8'));
    const silent = { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}), return: async () => ({ done: true }) }) };
    const roots = {
      query: { jobKinds: () => jobKinds, job: () => null },
      mutation: {
        cancelJob: () => {
          throw new Error('id: is not an id');
        },
      },
      subscription: {
        jobUpdated: ({ id }) => {
          if (id) throw new Error('id: is not an id');
          return silent;
        },
      },
    };
    theirs = new WebSocketServer({ port: 0, host: '127.0.0.1', maxPayload: 1 << 20 });
    useServer({ schema, roots }, theirs);
    await new Promise((done) => theirs.once('listening', done));
  });
  after(() => {
    for (const socket of theirs.clients) socket.terminate();
    theirs.close();
  });

  for (const [name, given] of Object.entries(cases)) {
    test(name, async () => {
      const asked = Array.isArray(given) ? { frames: given } : given;
      const [ours, reference] = await Promise.all([
        transcript(process.env.JOBQL_WS_URL, asked),
        transcript(`ws://127.0.0.1:${theirs.address().port}`, asked),
      ]);
      const difference = intended[name];
      if (!difference) return assert.deepEqual(ours, reference);
      assert.deepEqual(ours, difference.ours, difference.why);
      assert.notDeepEqual(ours, reference, 'the difference is gone; take it off the list');
    });
  }

  test('every listed difference has its case', () => {
    assert.deepEqual(Object.keys(intended).filter((name) => !(name in cases)), []);
  });
});
