import { useSignal } from '@preact/signals';
import { type Answer, ENDPOINT, mutate } from '../../api/client';
import { serverNow } from '../../api/clock';
import { CancelJobDocument, DeleteJobDocument, RetryJobDocument, UpdateJobDocument } from '../../api/generated';
import { printJson } from '../../api/json';
import { mayChangeJobs } from '../../api/session';
import { navigate } from '../../router';
import { copy } from '../../ui/copy';
import { Confirm } from '../../ui/dialog';
import { isRetryable, isTerminal } from '../../ui/status';
import { complain, say } from '../../ui/toast';
import type { Live, Whole } from '.';

export function Actions({ job, seen }: { job: Live; seen: (job: Live) => void }) {
  const asking = useSignal<'cancel' | 'delete' | null>(null);
  const busy = useSignal(false);
  const ended = isTerminal(job.status);

  const act = async <D,>(request: Promise<Answer<D>>, done: (data: D) => void) => {
    busy.value = true;
    const { data, problem } = await request;
    busy.value = false;
    asking.value = null;
    if (problem) complain(problem.message);
    else done(data);
  };
  const cancel = () =>
    act(mutate(CancelJobDocument, { id: job.id }), ({ cancelJob }) => {
      seen(cancelJob);
      say(cancelJob.status === 'RUNNING' ? 'It was asked to stop.' : 'Cancelled.');
    });
  const retry = () =>
    act(mutate(RetryJobDocument, { id: job.id }), ({ retryJob }) => {
      seen(retryJob);
      say('It is tried again.');
    });
  const runNow = () =>
    act(mutate(UpdateJobDocument, { id: job.id, runAt: new Date(serverNow()).toISOString() }), ({ updateJob }) => seen(updateJob));
  const remove = () =>
    act(mutate(DeleteJobDocument, { id: job.id }), () => {
      say('Deleted.');
      navigate('/ui/jobs');
    });

  return (
    <div class="buttons">
      {job.status === 'SCHEDULED' && (
        <button type="button" class="button" disabled={busy} onClick={() => void runNow()}>
          Run now
        </button>
      )}
      {isRetryable(job.status) && (
        <button type="button" class="button button-primary" disabled={busy} onClick={() => void retry()}>
          Retry
        </button>
      )}
      {!ended && (
        <button type="button" class="button" disabled={busy.value || job.cancelRequestedAt !== null} onClick={() => (asking.value = 'cancel')}>
          {job.cancelRequestedAt ? 'Stopping…' : 'Cancel…'}
        </button>
      )}
      {ended && (
        <button type="button" class="button" disabled={busy} onClick={() => (asking.value = 'delete')}>
          Delete…
        </button>
      )}
      {asking.value === 'cancel' && (
        <Confirm title="Cancel this job?" action="Cancel the job" danger busy={busy.value} confirm={() => void cancel()} close={() => (asking.value = null)}>
          <p>{job.status === 'RUNNING' ? 'Its worker is asked to stop it.' : 'It will not be started.'} It can be retried afterwards.</p>
        </Confirm>
      )}
      {asking.value === 'delete' && (
        <Confirm title="Delete this job?" action="Delete the job" danger busy={busy.value} confirm={() => void remove()} close={() => (asking.value = null)}>
          <p>Its payload, result, attempts and log are gone for good.</p>
        </Confirm>
      )}
    </div>
  );
}

const SUBMIT = `mutation Submit($input: SubmitJobInput!) {
  submitJob(input: $input) {
    created
    job { id status }
  }
}`;

/** The same job again, for other programs. */
export function CopyAs({ job }: { job: Whole }) {
  const input = { kind: job.kind, payload: job.payload, displayName: job.displayName, priority: job.priority, maxAttempts: job.maxAttempts };
  const graphql = () => `${SUBMIT}\n\n# Variables:\n${printJson({ input }, 2).replace(/^/gm, '# ')}\n`;
  const curl = () => {
    const body = printJson({ query: SUBMIT, variables: { input } }, 2);
    return `curl -s ${location.origin}${ENDPOINT} -H 'content-type: application/json' -d '${body.replaceAll("'", "'\\''")}'\n`;
  };
  return (
    <section class="panel" aria-label="Submit it again">
      <h2>Submit it again</h2>
      <div class="buttons">
        {mayChangeJobs.value && (
          <a class="button" href={`/ui/submit?from=${job.id}`}>
            In a form
          </a>
        )}
        <button type="button" class="button" onClick={() => void copy(graphql(), 'GraphQL')}>
          Copy as GraphQL
        </button>
        <button type="button" class="button" onClick={() => void copy(curl(), 'curl command')}>
          Copy as curl
        </button>
      </div>
    </section>
  );
}
