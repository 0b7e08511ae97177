// The jobs behind a node of the graph. They are put in order once, so that nothing moves under the eyes; what changes,
// changes in its place.

import { useSignal } from '@preact/signals';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import type { JobStatus } from '../../api/generated';
import { count, grouped } from '../../ui/number';
import { STATUSES, Status, StatusIcon, WORDS } from '../../ui/status';
import { jobsOf, nodeName } from './graph';
import { type Items, countsOf } from './jobs';
import type { Node } from './shape';

const STEP = 50;
/** What one looks for first stands first. */
const ORDER: JobStatus[] = ['ERROR', 'RUNNING', 'CANCELLED', 'PENDING', 'SCHEDULED', 'BLOCKED', 'DONE'];

export function Members({ node, items, close }: { node: Node; items: Items; close: () => void }) {
  const only = useSignal<JobStatus | null>(null);
  const shown = useSignal(STEP);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    only.value = null;
    heading.current?.focus();
  }, [node.key]);
  useEffect(() => {
    shown.value = STEP;
  }, [node.key, only.value]);
  const counts = countsOf(jobsOf(node, items));
  const ids = useMemo(() => {
    const jobs = jobsOf(node, items).map(({ job }) => job);
    const chosen = only.value === null ? jobs : jobs.filter((job) => job.status === only.value);
    return chosen.sort((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status)).map(({ id }) => id);
  }, [node, only.value]);
  return (
    <section class="panel members" aria-label={nodeName(node, items)}>
      <div class="members-head">
        <h2 ref={heading} tabIndex={-1}>
          {nodeName(node, items)}
        </h2>
        <button type="button" class="button" onClick={close}>
          Close
        </button>
      </div>
      <div class="chips" role="group" aria-label="Status">
        {STATUSES.filter((status) => counts[status] > 0 || only.value === status).map((status) => (
          <button
            key={status}
            type="button"
            class="chip"
            aria-pressed={only.value === status}
            onClick={() => (only.value = only.value === status ? null : status)}
          >
            <StatusIcon status={status} />
            {WORDS[status]} <span class="muted tabular">{grouped(counts[status])}</span>
          </button>
        ))}
      </div>
      <ul class="related">
        {ids.slice(0, shown.value).map((id) => {
          const job = items.get(id)?.job;
          return job ? (
            <li key={id}>
              <a href={`/ui/jobs/${id}`}>{job.displayName}</a>
              <Status status={job.status} stopping={job.cancelRequestedAt !== null} />
            </li>
          ) : null;
        })}
      </ul>
      {ids.length > shown.value && (
        <button type="button" class="link" onClick={() => (shown.value += STEP)}>
          Show more: {count(ids.length - shown.value, 'job')} left
        </button>
      )}
    </section>
  );
}
