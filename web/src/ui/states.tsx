// What a place says that has nothing to show yet, or any more.

import type { ComponentChildren } from 'preact';
import type { Problem } from '../api/problem';

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <div class="empty loading" role="status">
      Loading {what}…
    </div>
  );
}

const TITLES: Record<string, string> = { FORBIDDEN: 'Not for this token', NETWORK: 'Disconnected' };

export function Failed({ problem, retry }: { problem: Problem; retry: () => void }) {
  return (
    <div class="empty" role="alert">
      <p class="empty-title">{TITLES[problem.code] ?? 'This did not work'}</p>
      <p>
        {problem.message}
        {problem.code === 'NETWORK' && ' What is missing here comes as soon as it is back.'}
      </p>
      {problem.code !== 'FORBIDDEN' && (
        <button type="button" class="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}
