// Why a job is not running yet, and when it may.

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { type PositionSubscription, PositionDocument, type WaitReason } from '../../api/generated';
import { useSubscription } from '../../api/hooks';
import { isOperator } from '../../api/session';
import { count, grouped } from '../../ui/number';
import { Ago } from '../../ui/time';
import type { Live } from '.';

const WHY: Record<WaitReason, string> = {
  AHEAD_IN_QUEUE: 'Others go first.',
  QUEUE_PAUSED: 'Its queue is paused.',
  CONCURRENCY_LIMIT: 'As many jobs of its queue run as may.',
  SCHEDULED: 'Its time has not come.',
  BACK_OFF: 'An attempt failed; the next one waits.',
  DEPENDENCY: 'It depends on jobs that are not done.',
  DEPENDENCY_FAILED: 'A job that it depends on has failed. It goes on once that one is retried and done.',
  NO_LIVE_WORKER: 'No live worker serves its queue.',
};

const STUCK: WaitReason[] = ['QUEUE_PAUSED', 'NO_LIVE_WORKER'];

export function Waiting({ job }: { job: Live }) {
  if (job.status === 'PENDING') return <InQueue job={job} />;
  if (job.status !== 'SCHEDULED' && job.status !== 'BLOCKED') return null;
  return (
    <section class="panel waiting" aria-label="Waiting">
      <p>{job.waitReason ? WHY[job.waitReason] : ''}</p>
      {job.status === 'SCHEDULED' && (
        <p class="muted">
          Ready <Ago at={job.runAt} exactly />
        </p>
      )}
    </section>
  );
}

function InQueue({ job }: { job: Live }) {
  const place = useSignal<PositionSubscription['queuePositionUpdated'] | null>(null);
  useSubscription(PositionDocument, { id: job.id }, ({ queuePositionUpdated }) => {
    place.value = queuePositionUpdated;
  });
  useEffect(() => {
    place.value = null;
  }, [job.id, job.attempt]);
  const at = place.value;
  const stuck = job.waitReason !== null && STUCK.includes(job.waitReason);
  return (
    <section class={stuck ? 'panel waiting waiting-stuck' : 'panel waiting'} aria-label="Waiting">
      {at?.position != null && (
        <p class="place" data-position={at.position}>
          <strong class="tabular">{at.position === 1 ? 'Next' : `Number ${grouped(at.position)}`}</strong> in the queue{' '}
          {isOperator.value ? <a href="/ui/queues">{job.queue}</a> : job.queue}
          <span class="muted">
            , {count(at.pendingAhead, 'job')} ahead, {grouped(at.runningAhead)} running
          </span>
        </p>
      )}
      <p class={stuck ? 'stuck' : 'muted'}>
        {at?.estimatedStartAt ? (
          <>
            Starts probably <Ago at={at.estimatedStartAt} />
          </>
        ) : (
          job.waitReason && WHY[job.waitReason]
        )}
      </p>
    </section>
  );
}
