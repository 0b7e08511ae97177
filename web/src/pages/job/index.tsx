// One job, before, during and after its run.
//
// What is live (status, progress, attempts) comes by the subscription, and only ever replaces what is older. What is
// large (payload, result) is read once, and again at the end. The end completes the stream; a failed or cancelled job may
// be retried by somebody else, so its version is asked for now and then. So is what a job waits for, as that may change
// without the job: its queue is paused, what it depends on fails.

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import {
  type JobLiveFragment,
  type JobQuery,
  JobDocument,
  JobStateDocument,
  JobUpdatedDocument,
} from '../../api/generated';
import { useQuery, useSubscription } from '../../api/hooks';
import { mayChangeJobs } from '../../api/session';
import { JsonView } from '../../ui/json-view';
import { Panel } from '../../ui/panel';
import { Progress } from '../../ui/progress';
import { Empty, Failed, Loading } from '../../ui/states';
import { Status, isTerminal } from '../../ui/status';
import { Ago } from '../../ui/time';
import { Actions, CopyAs } from './actions';
import { Attempts } from './attempts';
import { CallbackState } from './callback';
import { Dependencies } from './dependencies';
import { Logs } from './logs';
import { Timeline } from './timeline';
import { Waiting } from './waiting';

export type Live = JobLiveFragment;
export type Whole = NonNullable<JobQuery['job']>;

const LOOK_AGAIN_MS = 5_000;

export function JobPage({ id }: { id: string }) {
  const reading = useQuery(JobDocument, { id }, { keep: true });
  const live = useSignal<Live | null>(null);
  const whole = reading.data?.job ?? null;

  const seen = (job: Live) => {
    const before = live.peek();
    if (before && before.version > job.version) return;
    live.value = job;
    if (before && isTerminal(job.status) !== isTerminal(before.status)) reading.reload();
  };
  useEffect(() => {
    if (whole) seen(whole);
  }, [whole]);

  const job = live.value;
  const ended = job !== null && isTerminal(job.status);
  useSubscription(JobUpdatedDocument, job && !ended ? { id } : null, ({ jobUpdated }) => seen(jobUpdated));

  const silent = job !== null && job.status !== 'RUNNING' && job.status !== 'DONE';
  const told = useQuery(JobStateDocument, silent ? { id } : null, { keep: true, everyMs: silent ? LOOK_AGAIN_MS : 0 }).data?.job;
  useEffect(() => {
    if (told && job && told.version > job.version) reading.reload();
  }, [told?.version]);

  useEffect(() => {
    if (job) document.title = `${job.displayName} · jobql`;
  }, [job?.displayName]);

  if (!job) {
    if (reading.problem && reading.problem.code !== 'BAD_USER_INPUT') return <Failed problem={reading.problem} retry={reading.reload} />;
    if (reading.loading) return <Loading what="the job" />;
    return <Unknown />;
  }
  // Read before its end, the rest has no result yet; it comes with the reading that the end causes.
  const complete = whole && whole.version >= job.version ? whole : null;
  return (
    <section class="page job" aria-labelledby="title">
      <Head job={job} whole={whole} seen={seen} />
      {reading.data && !whole && <p class="warning">This job has been deleted meanwhile.</p>}
      <Waiting job={told?.version === job.version ? { ...job, waitReason: told.waitReason } : job} />
      {job.status === 'RUNNING' && <Running job={job} />}
      {job.error && <Failure job={job} details={complete?.error?.details} />}
      <div class="job-columns">
        <div class="job-main">
          <Panel title="Timeline">
            <Timeline job={job} />
            <Attempts job={job} />
          </Panel>
          {job.status === 'DONE' && (
            <Panel title="Result">
              {complete ? <JsonView value={complete.result} label="Result" /> : <p class="muted">Loading…</p>}
            </Panel>
          )}
          <Panel title="Payload">{whole ? <JsonView value={whole.payload} label="Payload" /> : <p class="muted">Loading…</p>}</Panel>
          <Logs id={id} active={!ended} />
        </div>
        <aside class="job-side" aria-label="About this job">
          <Panel title="Facts">
            <Facts job={job} />
          </Panel>
          <Dependencies id={id} version={job.version} />
          {job.callback && (
            <Panel title="Callback">
              <CallbackState job={job} callback={job.callback} seen={seen} />
            </Panel>
          )}
          {whole && <CopyAs job={whole} />}
        </aside>
      </div>
    </section>
  );
}

function Head({ job, whole, seen }: { job: Live; whole: Whole | null; seen: (job: Live) => void }) {
  return (
    <div class="page-head job-head">
      <div>
        <h1 id="title" tabIndex={-1}>
          {job.displayName}
        </h1>
        <p class="muted job-under">
          <span role="status" aria-live="polite" data-status={job.status}>
            <Status status={job.status} stopping={job.cancelRequestedAt !== null} />
          </span>
          <a href={`/ui/jobs?kind=${encodeURIComponent(job.kind)}`}>{job.kind}</a>
          <span>
            submitted <Ago at={job.createdAt} />
          </span>
        </p>
      </div>
      {mayChangeJobs.value && whole && <Actions job={job} seen={seen} />}
    </div>
  );
}

function Running({ job }: { job: Live }) {
  const fraction = job.progress?.fraction ?? null;
  if (fraction === null && !job.progress?.message) return null;
  return (
    <section class="panel running" aria-label="Progress">
      <p class="running-words">
        <span>{job.progress?.message ?? 'Running'}</span>
        {fraction !== null && <strong class="tabular">{Math.floor(fraction * 100)} %</strong>}
      </p>
      {fraction !== null && <Progress fraction={fraction} label={job.displayName} />}
    </section>
  );
}

function Failure({ job, details }: { job: Live; details: unknown }) {
  if (!job.error) return null;
  return (
    <section class="panel failure" aria-label="Error">
      <h2>
        {job.error.code}
        <span class="muted"> {job.status === 'ERROR' && (job.error.retryable ? 'attempts used up' : 'another attempt cannot help')}</span>
      </h2>
      <p class="failure-message">{job.error.message}</p>
      {details != null && (
        <details class="failure-details">
          <summary>Details</summary>
          <JsonView value={details} label="Details of the error" />
        </details>
      )}
    </section>
  );
}

function Facts({ job }: { job: Live }) {
  return (
    <dl class="facts">
      <dt>Id</dt>
      <dd class="mono">{job.id}</dd>
      <dt>Queue</dt>
      <dd>
        <a href={`/ui/jobs?queue=${encodeURIComponent(job.queue)}`}>{job.queue}</a>
      </dd>
      <dt>Client</dt>
      <dd>
        <a href={`/ui/jobs?client=${encodeURIComponent(job.clientId)}`}>{job.clientId}</a>
      </dd>
      {job.requestId !== job.id && (
        <>
          <dt>Request id</dt>
          <dd class="mono">{job.requestId}</dd>
        </>
      )}
      <dt>Priority</dt>
      <dd>{job.priority}</dd>
      <dt>Attempts</dt>
      <dd>
        {job.attempt} of {job.maxAttempts}
      </dd>
      <dt>Submitted</dt>
      <dd>
        <Ago at={job.createdAt} exactly />
      </dd>
      {job.startBefore && (
        <>
          <dt>Start before</dt>
          <dd>
            <Ago at={job.startBefore} exactly />
          </dd>
        </>
      )}
      {job.finishedAt && (
        <>
          <dt>Ended</dt>
          <dd>
            <Ago at={job.finishedAt} exactly />
          </dd>
        </>
      )}
      <dt>Version</dt>
      <dd>{job.version}</dd>
    </dl>
  );
}

function Unknown() {
  return (
    <Empty title="There is no such job">
      <p>It may have been deleted or pruned, or it is another client’s.</p>
      <a class="button" href="/ui/jobs">
        To the jobs
      </a>
    </Empty>
  );
}
