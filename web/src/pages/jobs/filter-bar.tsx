import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { query } from '../../api/client';
import { KindsDocument, WhatHasThisIdDocument, WorkflowNameDocument } from '../../api/generated';
import { useQuery } from '../../api/hooks';
import { isOperator } from '../../api/session';
import { navigate } from '../../router';
import { Choice } from '../../ui/choice';
import { STATUSES, StatusIcon, WORDS } from '../../ui/status';
import { workflowTitle } from '../../ui/workflow-title';
import { type Filter, isFiltered } from './filter';

const ID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
const SETTLE_MS = 300;

export function FilterBar({ filter, change }: { filter: Filter; change: (change: Partial<Filter>) => void }) {
  const kinds = useQuery(KindsDocument, {}).data?.jobKinds ?? [];
  const queues = [...new Set(kinds.map((kind) => kind.queue))].sort();
  return (
    <search class="filter" aria-label="Filter jobs">
      <div class="chips" role="group" aria-label="Status">
        {STATUSES.map((status) => {
          const on = filter.status.includes(status);
          const next = on ? filter.status.filter((other) => other !== status) : [...filter.status, status];
          return (
            <button key={status} type="button" class="chip" aria-pressed={on} onClick={() => change({ status: next })}>
              <StatusIcon status={status} />
              {WORDS[status]}
            </button>
          );
        })}
      </div>
      <div class="filter-rest">
        <Choice label="Kind" options={kinds.map((kind) => kind.name)} chosen={filter.kind} choose={(kind) => change({ kind })} />
        <Choice label="Queue" options={queues} chosen={filter.queue} choose={(queue) => change({ queue })} />
        <Find client={filter.client} change={(client) => change({ client })} />
        {filter.workflow && <OfWorkflow id={filter.workflow} clear={() => change({ workflow: '' })} />}
        {isFiltered(filter) && (
          <button type="button" class="link" onClick={() => change({ status: [], kind: [], queue: [], client: '', workflow: '' })}>
            Clear
          </button>
        )}
      </div>
    </search>
  );
}

/** Chosen elsewhere, as there may be many; here it can be looked at, and taken away. */
function OfWorkflow({ id, clear }: { id: string; clear: () => void }) {
  const { data } = useQuery(WorkflowNameDocument, { id });
  const title = workflowTitle(data?.workflow ?? { id, name: null });
  return (
    <span class="of-workflow">
      <a href={`/ui/workflows/${id}`} title={title}>
        {title}
      </a>
      <button type="button" aria-label={`Not only of ${title}`} onClick={clear}>
        ×
      </button>
    </span>
  );
}

/** One box for all: the id of a job or a workflow leads to it, anything else is a client's id. */
function Find({ client, change }: { client: string; change: (client: string) => void }) {
  const text = useSignal(client);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => {
    text.value = client;
  }, [client]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const settle = () => {
    clearTimeout(timer.current);
    const wanted = text.peek().trim();
    if (ID.test(wanted)) void goTo(wanted.toLowerCase());
    else if (isOperator.value && wanted !== client) change(wanted);
  };
  const label = isOperator.value ? 'Client id, or a job’s id' : 'A job’s id';
  return (
    <form
      class="find"
      onSubmit={(event) => {
        event.preventDefault();
        settle();
      }}
    >
      <input
        id="find"
        type="search"
        aria-label={label}
        placeholder={label}
        aria-keyshortcuts="/"
        maxLength={128}
        spellcheck={false}
        autocomplete="off"
        value={text}
        onInput={(event) => {
          text.value = event.currentTarget.value;
          clearTimeout(timer.current);
          timer.current = setTimeout(settle, SETTLE_MS);
        }}
      />
      <kbd aria-hidden="true">/</kbd>
    </form>
  );
}

/** Where nothing has the id, the job's page says so. */
async function goTo(id: string): Promise<void> {
  const { data } = await query(WhatHasThisIdDocument, { id });
  navigate(data?.node?.__typename === 'Workflow' ? `/ui/workflows/${id}` : `/ui/jobs/${id}`);
}
