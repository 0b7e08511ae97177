import { useSignal } from '@preact/signals';
import { UpcomingDocument } from '../../api/generated';
import { useQuery } from '../../api/hooks';
import { grouped } from '../../ui/number';
import { Ago } from '../../ui/time';

const REFRESH_MS = 5_000;

/** The jobs that will be claimed next, once one asks for them. */
export function Upcoming({ name }: { name: string }) {
  const open = useSignal(false);
  const reading = useQuery(UpcomingDocument, open.value ? { name } : null, { keep: true, everyMs: open.value ? REFRESH_MS : 0 });
  const page = reading.data?.queue?.upcoming;
  return (
    <details class="upcoming" onToggle={(event) => (open.value = event.currentTarget.open)}>
      <summary>What comes next</summary>
      {page ? (
        <>
          <ol>
            {page.nodes.map((job, index) => (
              <li key={job.id}>
                <span class="muted tabular">{index + 1}</span>
                <a href={`/ui/jobs/${job.id}`}>{job.displayName}</a>
                <span class="muted">{job.kind}</span>
                <span class="muted">priority {job.priority}</span>
                <span class="muted">
                  <Ago at={job.createdAt} />
                </span>
              </li>
            ))}
          </ol>
          {page.totalCount > page.nodes.length && <p class="muted">and {grouped(page.totalCount - page.nodes.length)} more</p>}
        </>
      ) : (
        <p class="muted">{reading.problem ? reading.problem.message : 'Loading…'}</p>
      )}
    </details>
  );
}
