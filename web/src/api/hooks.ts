// Reading and watching from components. Both begin anew when what they depend on changes, and when the socket has come
// back: what happened in between was not told.

import { useComputed, useSignal, type ReadonlySignal } from '@preact/signals';
import type { AnyVariables } from '@urql/core';
import { useEffect, useRef } from 'preact/hooks';
import { query, subscribe } from './client';
import type { TypedDocumentString } from './generated';
import { printJson } from './json';
import type { Problem } from './problem';
import { connections, link } from './socket';

export interface Reading<D> {
  data: D | null;
  /** Why there is no data, or why it is not the newest. */
  problem: Problem | null;
  loading: boolean;
  /** Reads again and keeps showing what there is meanwhile. */
  reload: () => void;
}

/** True while the socket is connected. */
export function useIsConnected(): ReadonlySignal<boolean> {
  return useComputed(() => link.value.state === 'connected');
}

/**
 * Reads with these variables; none while they are null. What is shown stays until the new answer is there, unless the
 * variables have changed and `keep` is not set.
 */
export function useQuery<D, V extends AnyVariables>(
  document: TypedDocumentString<D, V>,
  variables: V | null,
  options: { everyMs?: number; keep?: boolean } = {},
): Reading<D> {
  const data = useSignal<D | null>(null);
  const problem = useSignal<Problem | null>(null);
  const loading = useSignal(variables !== null);
  const round = useSignal(0);
  const shownKey = useRef('');
  const key = variables === null ? '' : printJson(variables);
  // The first connection comes with the first reading; each later one is a reason to read again.
  const connection = Math.max(connections.value, 1);

  useEffect(() => {
    if (variables === null) return;
    let current = true;
    if (shownKey.current !== key && !options.keep) data.value = null;
    loading.value = true;
    void query(document, variables).then((answer) => {
      if (!current) return;
      loading.value = false;
      problem.value = answer.problem;
      if (answer.data) {
        shownKey.current = key;
        data.value = answer.data;
      }
    });
    return () => {
      current = false;
    };
  }, [document, key, connection, round.value]);

  const everyMs = options.everyMs;
  useEffect(() => {
    if (!everyMs) return;
    const timer = setInterval(() => {
      if (!globalThis.document.hidden && link.peek().state === 'connected') round.value += 1;
    }, everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);

  return {
    data: data.value,
    problem: problem.value,
    loading: loading.value,
    reload: () => {
      round.value += 1;
    },
  };
}

/** Watches with these variables while they are not null and there is a connection. */
export function useSubscription<D, V extends AnyVariables>(
  document: TypedDocumentString<D, V>,
  variables: V | null,
  next: (data: D) => void,
): void {
  const latest = useRef(next);
  latest.current = next;
  const connected = useIsConnected().value;
  const key = variables === null ? '' : printJson(variables);
  useEffect(() => {
    if (variables === null || !connected) return;
    return subscribe(document, variables, (data) => latest.current(data));
  }, [document, key, connected, connections.value]);
}
