// What the job waits for, and what waits for it.

import { type DependenciesQuery, DependenciesDocument } from '../../api/generated';
import { useQuery } from '../../api/hooks';
import { grouped } from '../../ui/number';
import { Status } from '../../ui/status';
import { Panel } from '.';

type Related = NonNullable<DependenciesQuery['job']>['dependsOn'];

/** There is no subscription to what is around a job. */
const REFRESH_MS = 5_000;

export function Dependencies({ id }: { id: string }) {
  const { data } = useQuery(DependenciesDocument, { id }, { keep: true, everyMs: REFRESH_MS });
  const job = data?.job;
  if (!job || job.dependsOn.nodes.length + job.dependents.nodes.length === 0) return null;
  return (
    <Panel title="Dependencies">
      <List title="Waits for" jobs={job.dependsOn} />
      <List title="Waited for by" jobs={job.dependents} />
    </Panel>
  );
}

function List({ title, jobs }: { title: string; jobs: Related }) {
  if (jobs.nodes.length === 0) return null;
  const rest = jobs.totalCount - jobs.nodes.length;
  return (
    <>
      <h3 class="muted related-title">{title}</h3>
      <ul class="related">
        {jobs.nodes.map((job) => (
          <li key={job.id}>
            <a href={`/ui/jobs/${job.id}`}>{job.displayName}</a>
            <Status status={job.status} />
          </li>
        ))}
        {rest > 0 && <li class="muted">and {grouped(rest)} more</li>}
      </ul>
    </>
  );
}
