import type { CallbackStatus } from '../api/generated';
import { Ago } from './time';

const WORDS: Record<CallbackStatus, string> = { WAITING: 'Waits', DELIVERED: 'Delivered', FAILED: 'Given up' };
const TONES: Record<CallbackStatus, string> = { WAITING: 'pending', DELIVERED: 'done', FAILED: 'error' };

export interface CallbackState {
  url: string;
  status: CallbackStatus;
  attempts: number;
  lastError: string | null;
  deliveredAt: string | null;
}

/** How far it is with telling the end of a job, or of a workflow. */
export function CallbackFacts({ callback, ended }: { callback: CallbackState; ended: boolean }) {
  return (
    <dl class="facts">
      <dt>State</dt>
      <dd class={`status-${TONES[callback.status]}`}>{callback.status === 'WAITING' && !ended ? 'Waits for the end' : WORDS[callback.status]}</dd>
      <dt>To</dt>
      <dd class="mono">{callback.url}</dd>
      <dt>Attempts</dt>
      <dd>{callback.attempts}</dd>
      {callback.lastError && (
        <>
          <dt>Last error</dt>
          <dd>{callback.lastError}</dd>
        </>
      )}
      {callback.deliveredAt && (
        <>
          <dt>Delivered</dt>
          <dd>
            <Ago at={callback.deliveredAt} />
          </dd>
        </>
      )}
    </dl>
  );
}
