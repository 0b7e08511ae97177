import type { JobStatus } from '../api/generated';
import { grouped } from './number';
import { STATUSES, StatusIcon, WORDS } from './status';

interface Properties {
  counts: Record<JobStatus, number>;
  /** Where the jobs of a status are listed. */
  href: (status: JobStatus) => string;
}

/** How many jobs are in each state, each number leading to them. */
export function StatusCounts({ counts, href }: Properties) {
  return (
    <dl class="counts">
      {STATUSES.map((status) => (
        <div key={status} class={counts[status] === 0 ? 'count count-zero' : 'count'}>
          <dt>
            <StatusIcon status={status} />
            {WORDS[status]}
          </dt>
          <dd class="tabular">{counts[status] === 0 ? '0' : <a href={href(status)}>{grouped(counts[status])}</a>}</dd>
        </div>
      ))}
    </dl>
  );
}

/** As the API tells them. */
export interface ToldCounts {
  blocked: number;
  scheduled: number;
  pending: number;
  running: number;
  done: number;
  error: number;
  cancelled: number;
}

export function byStatus(told: ToldCounts): Record<JobStatus, number> {
  return {
    BLOCKED: told.blocked,
    SCHEDULED: told.scheduled,
    PENDING: told.pending,
    RUNNING: told.running,
    DONE: told.done,
    ERROR: told.error,
    CANCELLED: told.cancelled,
  };
}
