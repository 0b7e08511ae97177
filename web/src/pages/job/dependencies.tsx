// What the job waits for, what waits for it, and the workflow that it is a part of.

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { type DependenciesQuery, DependenciesDocument } from '../../api/generated';
import { useQuery } from '../../api/hooks';
import { grouped } from '../../ui/number';
import { Panel } from '../../ui/panel';
import { Status } from '../../ui/status';
import { workflowTitle } from '../../ui/workflow-title';

type Related = NonNullable<DependenciesQuery['job']>['dependsOn'];

/** There is no subscription to what is around a job. */
const REFRESH_MS = 5_000;
const FEW = 20;
/** The API gives no more at once. */
const MOST = 200;

export function Dependencies({ id, version }: { id: string; version: number }) {
  const first = useSignal(FEW);
  const { data, reload } = useQuery(DependenciesDocument, { id, first: first.value }, { keep: true, everyMs: REFRESH_MS });
  // What changes the job often comes of a change around it.
  useEffect(() => reload(), [version]);
  const job = data?.job;
  if (!job) return null;
  const more = first.value < MOST ? () => (first.value = MOST) : null;
  return (
    <>
      {job.workflow && (
        <Panel title="Workflow">
          <ul class="related">
            <li>
              <a href={`/ui/workflows/${job.workflow.id}`}>{workflowTitle(job.workflow)}</a>
              <Status status={job.workflow.status} />
            </li>
          </ul>
          {job.workflowKey && (
            <p class="muted related-key">
              This job is its <span class="mono">{job.workflowKey}</span>.
            </p>
          )}
        </Panel>
      )}
      {job.dependsOn.nodes.length + job.dependents.nodes.length > 0 && (
        <Panel title="Dependencies">
          <List title="Waits for" jobs={job.dependsOn} more={more} />
          <List title="Waited for by" jobs={job.dependents} more={more} />
        </Panel>
      )}
    </>
  );
}

function List({ title, jobs, more }: { title: string; jobs: Related; more: (() => void) | null }) {
  if (jobs.nodes.length === 0) return null;
  const rest = jobs.totalCount - jobs.nodes.length;
  return (
    <>
      <h3 class="muted related-title">{title}</h3>
      <ul class="related related-long" aria-label={title}>
        {jobs.nodes.map((job) => (
          <li key={job.id} data-status={job.status}>
            <a href={`/ui/jobs/${job.id}`}>{job.displayName}</a>
            <Status status={job.status} />
          </li>
        ))}
      </ul>
      {rest > 0 && (
        <p class="muted related-rest">
          and {grouped(rest)} more{' '}
          {more && (
            <button type="button" class="link" onClick={more}>
              Show more
            </button>
          )}
        </p>
      )}
    </>
  );
}
