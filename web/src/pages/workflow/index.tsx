// A workflow as a whole: how far it is, and its jobs as a graph that is live.
//
// Its jobs are watched; itself it is read again when they have changed, and every few seconds. When its counts and those
// of the jobs that are known differ although nothing is told any more, something was missed: the jobs are read anew.

import { useSignal } from '@preact/signals';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import { type JobStatus, type WorkflowHeadFragment, WorkflowDocument, WorkflowJobUpdatedDocument } from '../../api/generated';
import { useQuery, useSubscription } from '../../api/hooks';
import type { Problem } from '../../api/problem';
import { mayChangeJobs } from '../../api/session';
import { connections } from '../../api/socket';
import { CallbackFacts } from '../../ui/callback-facts';
import { StatusCounts, byStatus } from '../../ui/counts';
import { count, grouped } from '../../ui/number';
import { Panel } from '../../ui/panel';
import { Empty, Failed, Loading } from '../../ui/states';
import { Status } from '../../ui/status';
import { Ago, Lasted } from '../../ui/time';
import { workflowTitle } from '../../ui/workflow-title';
import { WorkflowActions } from './actions';
import { Graph } from './graph';
import { type Counts, WorkflowJobs, countsOf } from './jobs';
import { Members } from './members';
import type { Node } from './shape';
import { StatusBar } from './status-bar';

type Head = WorkflowHeadFragment;

const READ_EVERY_MS = 5_000;
/** After something was told. */
const READ_SOON_MS = 700;
/** So long after the last news, what is known should be what there is. */
const SETTLED_MS = 2_000;

export function WorkflowPage({ id }: { id: string }) {
  const jobs = useMemo(() => new WorkflowJobs(id), [id]);
  const reading = useQuery(WorkflowDocument, { id }, { keep: true, everyMs: READ_EVERY_MS });
  const problem = useSignal<Problem | null>(null);
  const head = useSignal<Head | null>(null);
  const exists = head.value !== null;
  useSubscription(WorkflowJobUpdatedDocument, exists ? { id } : null, ({ jobUpdated }) => jobs.offer(jobUpdated));

  const readJobs = async () => {
    problem.value = await jobs.read();
  };
  useEffect(() => () => jobs.close(), [jobs]);
  const connection = connections.value;
  useEffect(() => {
    if (exists) void readJobs();
  }, [jobs, exists, connection]);

  const read = reading.data?.workflow ?? null;
  useEffect(() => {
    if (!read) return;
    head.value = read;
    const items = jobs.all.peek();
    if (items && Date.now() - jobs.toldAt > SETTLED_MS && !isSame(read.counts, countsOf(items.values()))) void readJobs();
  }, [read]);
  const changes = jobs.changes.value;
  const soon = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => {
    if (changes === 0) return;
    soon.current ??= setTimeout(() => {
      soon.current = undefined;
      reading.reload();
    }, READ_SOON_MS);
  }, [changes]);
  useEffect(() => () => clearTimeout(soon.current), []);

  const workflow = head.value;
  useEffect(() => {
    if (workflow) document.title = `${workflowTitle(workflow)} · jobql`;
  }, [workflow && workflowTitle(workflow)]);

  if (!workflow) {
    if (reading.problem && reading.problem.code !== 'BAD_USER_INPUT') return <Failed problem={reading.problem} retry={reading.reload} />;
    if (reading.loading) return <Loading what="the workflow" />;
    return <Unknown />;
  }
  const items = jobs.all.value;
  // Once its jobs are known their news is newer than the last reading.
  const counts = items ? countsOf(items.values()) : byStatus(workflow.counts);
  return (
    <section class="page workflow" aria-labelledby="title">
      <div class="page-head job-head">
        <div>
          <h1 id="title" tabIndex={-1}>
            {workflowTitle(workflow)}
          </h1>
          <p class="muted job-under">
            <span role="status" aria-live="polite" data-status={workflow.status}>
              <Status status={workflow.status} />
            </span>
            <span>Workflow</span>
            <span>
              submitted <Ago at={workflow.createdAt} />
            </span>
            <span>
              {workflow.finishedAt ? 'took ' : 'for '}
              <Lasted from={workflow.createdAt} to={workflow.finishedAt} />
            </span>
          </p>
        </div>
        {mayChangeJobs.value && <WorkflowActions workflow={workflow} seen={(seen) => (head.value = seen)} />}
      </div>
      {reading.data && !read && <p class="warning">This workflow has been pruned meanwhile.</p>}
      <HowFar counts={counts} id={id} />
      <GraphPanel jobs={jobs} problem={problem.value} retry={() => void readJobs()} total={total(counts)} />
      <div class="workflow-columns">
        <Panel title="Facts">
          <Facts workflow={workflow} />
        </Panel>
        {workflow.callback && (
          <Panel title="Callback">
            <CallbackFacts callback={workflow.callback} ended={workflow.status !== 'RUNNING'} />
          </Panel>
        )}
      </div>
    </section>
  );
}

function HowFar({ counts, id }: { counts: Counts; id: string }) {
  const all = total(counts);
  return (
    <section class="panel how-far" aria-label="Counts">
      <p class="running-words">
        <span>
          <strong class="tabular">{grouped(counts.DONE)}</strong> of {count(all, 'job')} done
        </span>
        <a href={`/ui/jobs?workflow=${id}`}>As a list</a>
      </p>
      <StatusBar counts={counts} />
      <StatusCounts counts={counts} href={(status: JobStatus) => `/ui/jobs?workflow=${id}&status=${status.toLowerCase()}`} />
    </section>
  );
}

interface GraphProperties {
  jobs: WorkflowJobs;
  problem: Problem | null;
  retry: () => void;
  total: number;
}

function GraphPanel({ jobs, problem, retry, total }: GraphProperties) {
  const open = useSignal<Node | null>(null);
  const items = jobs.all.value;
  // Drawn again with each change of a job.
  jobs.changes.value;
  const close = () => {
    open.value = null;
    document.querySelector<HTMLElement>('.node[tabindex="0"]')?.focus();
  };
  return (
    <>
      <section class="panel graph-panel" aria-label="Graph">
        <div class="graph-head">
          <h2>Graph</h2>
          <p class="muted">What must be done first stands on the left. Arrow keys go along the lines.</p>
        </div>
        {items ? (
          <>
            <Graph items={items} open={open.value?.key ?? null} choose={(node) => (open.value = open.peek()?.key === node.key ? null : node)} />
            {jobs.partial.value && <p class="muted">It has more dependencies than are drawn here.</p>}
          </>
        ) : problem ? (
          <Failed problem={problem} retry={retry} />
        ) : (
          <p class="muted graph-reading" role="status">
            Reading its jobs… {jobs.readSoFar.value > 0 && `${grouped(jobs.readSoFar.value)} of ${grouped(total)}`}
          </p>
        )}
      </section>
      {items && open.value && <Members node={open.value} items={items} close={close} />}
    </>
  );
}

function Facts({ workflow }: { workflow: Head }) {
  return (
    <dl class="facts">
      <dt>Id</dt>
      <dd class="mono">{workflow.id}</dd>
      <dt>Client</dt>
      <dd>
        <a href={`/ui/jobs?client=${encodeURIComponent(workflow.clientId)}`}>{workflow.clientId}</a>
      </dd>
      {workflow.requestId !== workflow.id && (
        <>
          <dt>Request id</dt>
          <dd class="mono">{workflow.requestId}</dd>
        </>
      )}
      <dt>When a job fails</dt>
      <dd>{workflow.onFailure === 'CANCEL' ? 'what depends on it is cancelled' : 'what depends on it waits for its retry'}</dd>
      <dt>Submitted</dt>
      <dd>
        <Ago at={workflow.createdAt} exactly />
      </dd>
      {workflow.finishedAt && (
        <>
          <dt>Ended</dt>
          <dd>
            <Ago at={workflow.finishedAt} exactly />
          </dd>
        </>
      )}
    </dl>
  );
}

function Unknown() {
  return (
    <Empty title="There is no such workflow">
      <p>It may have been pruned, or it is another client’s.</p>
      <a class="button" href="/ui/jobs">
        To the jobs
      </a>
    </Empty>
  );
}

function isSame(told: Head['counts'], known: Counts): boolean {
  return Object.entries(byStatus(told)).every(([status, value]) => known[status as JobStatus] === value);
}

function total(counts: Counts): number {
  return Object.values(counts).reduce((sum, value) => sum + value, 0);
}
