// What many sockets and subscriptions cost, and that one of them cannot harm the others. A server of its own, so that its
// memory is what these tests made of it.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { connect } from 'node:net';
import { WebSocket } from 'ws';
import { Server } from '../server.mjs';
import { CANCEL, WATCH, request, waitingJob } from '../streams.mjs';

const SUBPROTOCOL = 'graphql-transport-ws';

/** A socket that is acknowledged; `heard` is called with each later message. */
function open(url, heard) {
  return new Promise((done, failed) => {
    const socket = new WebSocket(url, [SUBPROTOCOL], { perMessageDeflate: false });
    socket.on('open', () => socket.send('{"type":"connection_init"}'));
    socket.on('error', failed);
    socket.on('message', (data) => {
      const message = JSON.parse(data);
      if (message.type === 'connection_ack') done(socket);
      else heard(message);
    });
  });
}

const subscribe = (id, query, variables) => JSON.stringify({ id, type: 'subscribe', payload: { query, variables } });

/** Resolves once the predicate holds. */
async function until(predicate, milliseconds, what) {
  const deadline = Date.now() + milliseconds;
  while (!predicate()) {
    if (Date.now() > deadline) throw new Error(`not within ${milliseconds} ms: ${what()}`);
    await new Promise((go) => setTimeout(go, 20));
  }
}

describe('sockets', { concurrency: false }, () => {
  let server;
  before(async () => {
    server = await new Server(['--slots', '8']).start();
  });
  after(() => server.remove());

  test('2,000 sockets with 5,000 subscriptions take less than 20 kB a socket', async (t) => {
    const id = await waitingJob(server.url);
    const sockets = [];
    let events = 0;
    let ended = 0;
    const heard = (message) => {
      if (message.type === 'next') events += 1;
      else if (message.type === 'complete') ended += 1;
      else assert.fail(JSON.stringify(message));
    };
    const openMany = async (count, subscriptions) => {
      for (let opened = 0; opened < count; opened += 100) {
        const batch = await Promise.all(Array.from({ length: Math.min(100, count - opened) }, () => open(server.wsUrl, heard)));
        sockets.push(...batch);
        const expected = events + subscriptions(batch);
        await until(() => events === expected, 30_000, () => `${events} of ${expected} first events`);
      }
    };
    const watch = (batch, each) => {
      let made = 0;
      batch.forEach((socket, index) => {
        for (let n = 0; n < each(index); n += 1) {
          socket.send(subscribe(`s${n}`, WATCH, { id }));
          made += 1;
        }
      });
      return made;
    };
    // What the first sockets cost once, such as pools of the allocator, is no price of a socket.
    await openMany(100, (batch) => watch(batch, () => 2));
    const before = server.residentKb();
    await openMany(2_000, (batch) => watch(batch, (index) => 2 + (index % 2)));
    const each = (server.residentKb() - before) / 2_000;
    t.diagnostic(`${each.toFixed(1)} kB a socket with 2.5 subscriptions`);
    assert.equal(events, 200 + 5_000);
    assert.ok(each < 20, `${each} kB a socket`);
    // All of them are told, and end.
    const told = events;
    const began = performance.now();
    await request(server.url, CANCEL, { id });
    await until(() => ended === 5_200 && events === told + 5_200, 30_000, () => `${ended} ends, ${events - told} events`);
    t.diagnostic(`all 5,200 subscriptions were told within ${Math.round(performance.now() - began)} ms`);
    for (const socket of sockets) socket.terminate();
  });

  test('1,000 subscriptions on one socket work', async () => {
    const id = await waitingJob(server.url);
    const seen = new Map();
    let ended = 0;
    const socket = await open(server.wsUrl, (message) => {
      if (message.type === 'complete') ended += 1;
      else seen.set(message.id, [...(seen.get(message.id) ?? []), message.payload.data.jobUpdated.status]);
    });
    for (let n = 0; n < 1_000; n += 1) socket.send(subscribe(`s${n}`, WATCH, { id }));
    await until(() => seen.size === 1_000, 30_000, () => `${seen.size} of 1,000 began`);
    await request(server.url, CANCEL, { id });
    await until(() => ended === 1_000, 30_000, () => `${ended} of 1,000 ended`);
    for (const statuses of seen.values()) assert.deepEqual(statuses, ['SCHEDULED', 'CANCELLED']);
    socket.close();
  });

  test('more than 2,000 operations on one socket are refused, each by its id', async () => {
    const id = await waitingJob(server.url);
    const refused = [];
    let began = 0;
    const socket = await open(server.wsUrl, (message) => {
      if (message.type === 'error') refused.push([message.id, message.payload[0].extensions.code]);
      else began += 1;
    });
    for (let n = 0; n < 2_001; n += 1) socket.send(subscribe(`s${n}`, WATCH, { id }));
    await until(() => began + refused.length === 2_001, 60_000, () => `${began} began, ${refused.length} refused`);
    assert.deepEqual(refused, [['s2000', 'RATE_LIMITED']]);
    socket.terminate();
    await request(server.url, CANCEL, { id });
  });

  test('a subscription that fires without pause does not starve the others', async () => {
    let busy = 0;
    let stop = false;
    const latencies = [];
    let told = () => {};
    const socket = await open(server.wsUrl, (message) => {
      if (message.id === 'busy') busy += 1;
      else if (message.id !== 'feed' && message.type === 'complete') told();
    });
    socket.send(subscribe('feed', 'subscription { jobUpdated { id version } }'));
    // A query that starts again as soon as it is answered keeps the socket busy, and jobs keep the feed so.
    const clientId = 'busy';
    const flood = (async () => {
      const inputs = Array.from({ length: 100 }, () => ({ kind: 'echo', clientId }));
      const query = 'mutation ($inputs: [SubmitJobInput!]!) { submitJobs(inputs: $inputs) { created } }';
      while (!stop) await request(server.url, query, { inputs });
    })();
    socket.send(subscribe('busy', 'subscription { jobUpdated(clientId: "busy") { id version status payload } }'));
    await until(() => busy > 200, 20_000, () => `${busy} events`);
    const before = busy;
    for (let n = 0; n < 50; n += 1) {
      const began = performance.now();
      const answered = new Promise((go) => (told = go));
      socket.send(subscribe(`q${n}`, '{ jobKinds { name } }'));
      await answered;
      latencies.push(performance.now() - began);
    }
    stop = true;
    await flood;
    assert.ok(busy > before, 'it went on meanwhile');
    latencies.sort((one, other) => one - other);
    assert.ok(latencies.at(-1) < 2_000, `the slowest of 50 queries took ${latencies.at(-1)} ms`);
    socket.terminate();
  });

  test('a client that does not read is dropped, and costs no memory until then', async (t) => {
    const before = server.residentKb();
    const { hostname, port } = new URL(server.url);
    const socket = connect({ host: hostname, port: Number(port) });
    let closed = false;
    socket.on('close', () => (closed = true));
    socket.on('error', () => (closed = true));
    const key = Buffer.from('0123456789abcdef').toString('base64');
    socket.write(
      `GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
        `Sec-WebSocket-Key: ${key}\r\nSec-WebSocket-Protocol: ${SUBPROTOCOL}\r\n\r\n`,
    );
    await new Promise((go) => socket.once('data', go));
    socket.pause();
    /** A masked text frame; the mask is 0. */
    const frame = (text) => {
      const body = Buffer.from(text);
      const head = Buffer.alloc(body.length < 126 ? 6 : 8);
      head[0] = 0x81;
      head[1] = 0x80 | (body.length < 126 ? body.length : 126);
      if (body.length >= 126) head.writeUInt16BE(body.length, 2);
      return Buffer.concat([head, body]);
    };
    socket.write(frame('{"type":"connection_init"}'));
    const ping = frame(JSON.stringify({ type: 'ping', payload: { a: 'x'.repeat(60_000) } }));
    let most = 0;
    const began = Date.now();
    while (!closed) {
      assert.ok(Date.now() - began < 30_000, 'it was never dropped');
      // As much as it takes, to keep both directions full.
      while (!closed && socket.writableLength < 1 << 20) socket.write(ping);
      most = Math.max(most, server.residentKb() - before);
      await new Promise((go) => setTimeout(go, 50));
    }
    const seconds = (Date.now() - began) / 1000;
    t.diagnostic(`dropped after ${seconds.toFixed(1)} s, at most ${most} kB more memory`);
    assert.ok(most < 8_192, `${most} kB`);
    assert.match(server.logged(), /dropped a socket that does not read/);
    assert.deepEqual(await request(server.url, '{ __typename }'), { __typename: 'Query' });
  });
});
