// What is done to the workflow as a whole. Nothing happens before it was said how many jobs it changes.

import { useSignal } from '@preact/signals';
import { mutate } from '../../api/client';
import {
  CancelJobsDocument,
  CancelWorkflowDocument,
  RetryJobsDocument,
  RetryWorkflowDocument,
  type WorkflowHeadFragment,
} from '../../api/generated';
import { Confirm } from '../../ui/dialog';
import { count } from '../../ui/number';
import { complain, say } from '../../ui/toast';

interface Question {
  action: 'cancel' | 'retry';
  matched: number;
}

interface Properties {
  workflow: WorkflowHeadFragment;
  seen: (workflow: WorkflowHeadFragment) => void;
}

export function WorkflowActions({ workflow, seen }: Properties) {
  const question = useSignal<Question | null>(null);
  const busy = useSignal(false);
  const { counts, id } = workflow;
  const open = counts.blocked + counts.scheduled + counts.pending + counts.running;
  const failed = counts.error + counts.cancelled;

  const ask = async (action: Question['action']) => {
    busy.value = true;
    const counted = action === 'cancel' ? CancelJobsDocument : RetryJobsDocument;
    const { data, problem } = await mutate(counted, { filter: { workflowId: id }, dryRun: true });
    busy.value = false;
    if (problem) complain(problem.message);
    else question.value = { action, matched: data.outcome.matched };
  };
  const go = async (action: Question['action']) => {
    busy.value = true;
    const { data, problem } =
      action === 'cancel'
        ? await mutate(CancelWorkflowDocument, { id }).then(({ data, problem }) => ({ data: data?.cancelWorkflow, problem }))
        : await mutate(RetryWorkflowDocument, { id }).then(({ data, problem }) => ({ data: data?.retryWorkflow, problem }));
    busy.value = false;
    question.value = null;
    if (problem) return complain(problem.message);
    if (data) seen(data);
    say(action === 'cancel' ? 'The workflow is cancelled; what runs is asked to stop.' : 'The workflow is tried again.');
  };
  return (
    <div class="buttons">
      {failed > 0 && (
        <button type="button" class="button button-primary" disabled={busy} onClick={() => void ask('retry')}>
          Retry…
        </button>
      )}
      {open > 0 && (
        <button type="button" class="button" disabled={busy} onClick={() => void ask('cancel')}>
          Cancel…
        </button>
      )}
      {question.value && (
        <Asked question={question.value} busy={busy.value} go={(action) => void go(action)} close={() => (question.value = null)} />
      )}
    </div>
  );
}

interface AskedProperties {
  question: Question;
  busy: boolean;
  go: (action: Question['action']) => void;
  close: () => void;
}

const WORDS = {
  cancel: {
    verb: 'Cancel',
    nothing: 'All of its jobs have ended meanwhile.',
    consequence: 'What waits is cancelled at once; what runs is asked to stop. They can be retried afterwards.',
  },
  retry: {
    verb: 'Retry',
    nothing: 'None of its jobs is failed or cancelled any more.',
    consequence: 'They run again with all their attempts granted, each after those it depends on. What is done stays done.',
  },
};

function Asked({ question, busy, go, close }: AskedProperties) {
  const { action, matched } = question;
  const { verb, nothing, consequence } = WORDS[action];
  return (
    <Confirm
      title={matched === 0 ? `${verb}: nothing to do` : `${verb} ${count(matched, 'job')} of this workflow?`}
      action={matched === 0 ? null : `${verb} ${count(matched, 'job')}`}
      danger={action === 'cancel'}
      busy={busy}
      confirm={() => go(action)}
      close={close}
    >
      <p>{matched === 0 ? nothing : consequence}</p>
    </Confirm>
  );
}
