// What is done to many jobs at once. Nothing happens before it was said how many it is.

import { type Signal, useSignal } from '@preact/signals';
import { mutate } from '../../api/client';
import { serverNow } from '../../api/clock';
import { CancelJobsDocument, DeleteJobsDocument, type JobFilter, RetryJobsDocument } from '../../api/generated';
import { Confirm } from '../../ui/dialog';
import { count, grouped } from '../../ui/number';
import { complain, say } from '../../ui/toast';
import { type Filter, bulkFilter, isFiltered } from './filter';

const ACTIONS = {
  cancel: { document: CancelJobsDocument, verb: 'Cancel', done: 'cancelled', none: 'None of them can be cancelled: they have ended.' },
  retry: { document: RetryJobsDocument, verb: 'Retry', done: 'retried', none: 'None of them can be retried: only failed and cancelled jobs can.' },
  delete: { document: DeleteJobsDocument, verb: 'Delete', done: 'deleted', none: 'None of them can be deleted: they have not ended.' },
} as const;

type Action = keyof typeof ACTIONS;

interface Question {
  action: Action;
  filter: JobFilter;
  asked: number;
  /** Jobs that this would change. */
  matched: number;
}

interface Properties {
  filter: Filter;
  shown: string[];
  total: number;
  selected: Signal<ReadonlySet<string>>;
  allMatching: Signal<boolean>;
  done: () => void;
}

export function BulkActions({ filter, shown, total, selected, allMatching, done }: Properties) {
  const question = useSignal<Question | null>(null);
  const busy = useSignal(false);
  const ids = [...selected.value];
  if (ids.length === 0) return null;
  const asked = allMatching.value ? total : ids.length;
  const clear = () => {
    selected.value = new Set();
    allMatching.value = false;
  };

  const ask = async (action: Action) => {
    const chosen: JobFilter = allMatching.value ? bulkFilter(filter, serverNow()) : { ids };
    busy.value = true;
    const { data, problem } = await mutate(ACTIONS[action].document, { filter: chosen, dryRun: true });
    busy.value = false;
    if (problem) complain(problem.message);
    else question.value = { action, filter: chosen, asked, matched: data.outcome.matched };
  };

  const go = async ({ action, filter }: Question) => {
    busy.value = true;
    const { data, problem } = await mutate(ACTIONS[action].document, { filter, dryRun: false });
    busy.value = false;
    question.value = null;
    if (problem) complain(problem.message);
    else say(`${count(data.outcome.changed, 'job')} ${ACTIONS[action].done}.`);
    clear();
    done();
  };

  return (
    <div class="bulk" role="group" aria-label="Selected jobs">
      <p>
        <strong>{count(asked, 'job')}</strong> selected
        {!allMatching.value && ids.length === shown.length && total > shown.length && (
          <button type="button" class="link" onClick={() => (allMatching.value = true)}>
            Select all {grouped(total)} {isFiltered(filter) ? 'that match' : 'jobs'}
          </button>
        )}
        <button type="button" class="link" onClick={clear}>
          Select none
        </button>
      </p>
      <div class="buttons">
        {(Object.keys(ACTIONS) as Action[]).map((action) => (
          <button key={action} type="button" class="button" disabled={busy} onClick={() => void ask(action)}>
            {ACTIONS[action].verb}…
          </button>
        ))}
      </div>
      {question.value && <Asked question={question.value} busy={busy.value} go={go} close={() => (question.value = null)} />}
    </div>
  );
}

interface AskedProperties {
  question: Question;
  busy: boolean;
  go: (question: Question) => void;
  close: () => void;
}

function Asked({ question, busy, go, close }: AskedProperties) {
  const { verb, none } = ACTIONS[question.action];
  const { matched, asked } = question;
  const nothing = matched === 0;
  const rest = asked - matched;
  return (
    <Confirm
      title={nothing ? `${verb}: nothing to do` : `${verb} ${count(matched, 'job')}?`}
      action={nothing ? null : `${verb} ${count(matched, 'job')}`}
      danger={question.action !== 'retry'}
      busy={busy}
      confirm={() => go(question)}
      close={close}
    >
      {nothing ? <p>{none}</p> : <p>{CONSEQUENCES[question.action]}</p>}
      {!nothing && rest > 0 && (
        <p>
          {count(asked, 'job')} {asked === 1 ? 'is' : 'are'} selected; the other {grouped(rest)} cannot be {ACTIONS[question.action].done} and{' '}
          {rest === 1 ? 'stays' : 'stay'} as {rest === 1 ? 'it is' : 'they are'}.
        </p>
      )}
    </Confirm>
  );
}

const CONSEQUENCES: Record<Action, string> = {
  cancel: 'What waits is cancelled at once; what runs is asked to stop.',
  retry: 'They go back to their queues with all their attempts granted again. Their history is kept.',
  delete: 'Their payloads, results, attempts and logs are gone for good.',
};

