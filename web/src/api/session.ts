// Who is asking, and signing in and out.

import { computed, signal } from '@preact/signals';
import { authorize, query } from './client';
import { type SessionQuery, SessionDocument } from './generated';
import type { Problem } from './problem';
import { closeSocket, openSocket } from './socket';
import { forgetToken, storeToken, storedToken } from './token';

/** While there is no server at all. */
const TRY_AGAIN_MS = 3_000;

export type Viewer = SessionQuery['viewer'];

/** A token is needed; the one that was given is not taken; the one that was taken until now is no more. */
export type WhySignedOut = 'asked' | 'refused' | 'ended';

export type Session =
  | { state: 'starting' }
  | { state: 'unreachable'; problem: Problem }
  | { state: 'signed-out'; why: WhySignedOut }
  | { state: 'signed-in'; viewer: Viewer; withToken: boolean };

export const session = signal<Session>({ state: 'starting' });

export const viewer = computed(() => (session.value.state === 'signed-in' ? session.value.viewer : null));
export const isOperator = computed(() => viewer.value?.scope === 'OPERATOR');
/** May submit, and cancel, retry and delete what it sees. */
export const mayChangeJobs = computed(() => isOperator.value || viewer.value?.scope === 'CLIENT');

/** Starts with the token that is stored, if any. */
export async function startSession(): Promise<void> {
  const token = storedToken();
  const refused = () => leave(token === null ? 'asked' : session.peek().state === 'signed-in' ? 'ended' : 'refused');
  authorize(token, refused);
  const { data, problem } = await query(SessionDocument, {});
  if (data) {
    session.value = { state: 'signed-in', viewer: data.viewer, withToken: token !== null };
    openSocket(token, refused);
  } else if (session.peek().state !== 'signed-out') {
    session.value = { state: 'unreachable', problem };
    setTimeout(() => {
      if (session.peek().state === 'unreachable') void startSession();
    }, TRY_AGAIN_MS);
  }
}

export async function signIn(token: string, remember: boolean): Promise<void> {
  storeToken(token, remember);
  session.value = { state: 'starting' };
  await startSession();
}

export function signOut(): void {
  leave('asked');
}

function leave(why: WhySignedOut): void {
  // Of several answers that refuse, the first one knows why.
  if (session.peek().state === 'signed-out') return;
  forgetToken();
  closeSocket();
  session.value = { state: 'signed-out', why };
}
