import type { AttemptOutcome } from '../../api/generated';
import { Ago, duration } from '../../ui/time';
import type { Live } from '.';

const OUTCOMES: Record<AttemptOutcome, string> = {
  DONE: 'Done',
  ERROR: 'Failed',
  TIMEOUT: 'Took too long',
  CANCELLED: 'Cancelled',
  WORKER_LOST: 'Lost its worker',
  RELEASED: 'Given back',
};

const TONES: Record<AttemptOutcome, string> = {
  DONE: 'done',
  ERROR: 'error',
  TIMEOUT: 'error',
  CANCELLED: 'cancelled',
  WORKER_LOST: 'error',
  RELEASED: 'pending',
};

export function Attempts({ job }: { job: Live }) {
  if (job.attempts.length === 0) return null;
  return (
    <ol class="attempts" aria-label="Attempts that have ended">
      {job.attempts.map((attempt) => (
        <li key={attempt.number}>
          <span class="attempt-number tabular">{attempt.number}</span>
          <span class={`status-${TONES[attempt.outcome]} attempt-outcome`}>{OUTCOMES[attempt.outcome]}</span>
          <span class="attempt-error">
            {attempt.error && (
              <>
                <strong>{attempt.error.code}</strong> {attempt.error.message}
              </>
            )}
          </span>
          <span class="muted tabular attempt-when" title={`Worker ${attempt.workerId}`}>
            <Ago at={attempt.startedAt} />, {duration(Date.parse(attempt.endedAt) - Date.parse(attempt.startedAt))}
          </span>
        </li>
      ))}
    </ol>
  );
}
