// The one WebSocket of the page: when it is lost it comes back by itself, and says how that goes.
//
//   connecting ──► connected ──► waiting (until) ──► connecting …
//                      └── closed with 4403: signed out
//
// `connections` counts how often it has been connected. Whoever shows something live reads it anew when that rises, as
// what happened in between was not told.

import { signal } from '@preact/signals';
import { createClient, type Client } from 'graphql-ws';

export type Link =
  | { state: 'connecting' }
  | { state: 'connected' }
  | { state: 'waiting'; until: number };

export const link = signal<Link>({ state: 'connecting' });
export const connections = signal(0);

const PING_EVERY_MS = 10_000;
const PONG_WITHIN_MS = 5_000;
const ACK_WITHIN_MS = 10_000;
const LONGEST_WAIT_MS = 15_000;
/** The server's words for "not with this token". */
const REFUSED = [4401, 4403];

let client: Client | null = null;
let hurry: () => void = () => {};

/** Opens the socket with this token, or opens it anew. */
export function openSocket(token: string | null, refused: () => void): void {
  closeSocket();
  let pongMissed: ReturnType<typeof setTimeout> | undefined;
  const opened = createClient({
    url: `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/graphql`,
    lazy: false,
    connectionParams: token ? { authorization: `Bearer ${token}` } : {},
    connectionAckWaitTimeout: ACK_WITHIN_MS,
    keepAlive: PING_EVERY_MS,
    retryAttempts: Number.POSITIVE_INFINITY,
    shouldRetry: (cause) => !wasRefused(cause),
    retryWait: (attempts) => waitFor(Math.min(1_000 * 2 ** attempts, LONGEST_WAIT_MS) * (0.8 + 0.4 * Math.random())),
    onNonLazyError: (cause) => {
      if (client === opened && wasRefused(cause)) refused();
    },
    on: {
      connected: () => {
        if (client !== opened) return;
        link.value = { state: 'connected' };
        connections.value += 1;
      },
      ping: (received) => {
        if (!received) pongMissed = setTimeout(() => opened.terminate(), PONG_WITHIN_MS);
      },
      pong: (received) => {
        if (received) clearTimeout(pongMissed);
      },
      closed: () => {
        clearTimeout(pongMissed);
        // Of a connection that failed this is told after the wait for the next one has begun.
        if (client === opened && link.peek().state === 'connected') link.value = { state: 'connecting' };
      },
    },
  });
  client = opened;
}

export function closeSocket(): void {
  const closing = client;
  client = null;
  void closing?.dispose();
  link.value = { state: 'connecting' };
}

/** The client that subscriptions go through. */
export function socket(): Client {
  if (!client) throw new Error('the socket is not open');
  return client;
}

/** Tries at once instead of waiting on. */
export function reconnectNow(): void {
  hurry();
}

function wasRefused(cause: unknown): boolean {
  return cause instanceof CloseEvent && REFUSED.includes(cause.code);
}

function waitFor(ms: number): Promise<void> {
  link.value = { state: 'waiting', until: Date.now() + ms };
  return new Promise((done) => {
    const go = () => {
      clearTimeout(timer);
      link.value = { state: 'connecting' };
      done();
    };
    const timer = setTimeout(go, ms);
    hurry = go;
  });
}

window.addEventListener('online', reconnectNow);
