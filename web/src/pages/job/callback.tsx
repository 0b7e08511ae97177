import type { CallbackStatus } from '../../api/generated';
import { RedeliverCallbackDocument } from '../../api/generated';
import { mutate } from '../../api/client';
import { mayChangeJobs } from '../../api/session';
import { isTerminal } from '../../ui/status';
import { Ago } from '../../ui/time';
import { complain, say } from '../../ui/toast';
import type { Live } from '.';

const WORDS: Record<CallbackStatus, string> = { WAITING: 'Waits', DELIVERED: 'Delivered', FAILED: 'Given up' };
const TONES: Record<CallbackStatus, string> = { WAITING: 'pending', DELIVERED: 'done', FAILED: 'error' };

interface Properties {
  job: Live;
  callback: NonNullable<Live['callback']>;
  seen: (job: Live) => void;
}

export function CallbackState({ job, callback, seen }: Properties) {
  const again = async () => {
    const { data, problem } = await mutate(RedeliverCallbackDocument, { id: job.id });
    if (problem) return complain(problem.message);
    say('The callback is sent once more.');
    seen(data.redeliverCallback);
  };
  return (
    <>
      <dl class="facts">
        <dt>State</dt>
        <dd class={`status-${TONES[callback.status]}`}>
          {callback.status === 'WAITING' && !isTerminal(job.status) ? 'Waits for the end' : WORDS[callback.status]}
        </dd>
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
      {mayChangeJobs.value && isTerminal(job.status) && (
        <button type="button" class="button" onClick={() => void again()}>
          Send it again
        </button>
      )}
    </>
  );
}
