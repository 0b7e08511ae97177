// Submitting one job: its kind, its payload by a form or as JSON, and how it is to be run.

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { mutate, query } from '../../api/client';
import { JobToRepeatDocument, KindsDocument, type KindsQuery, SubmitJobDocument } from '../../api/generated';
import { useQuery } from '../../api/hooks';
import { parseJson, printJson } from '../../api/json';
import { readLines } from '../../api/json-text';
import { type Misfit, type Problem, problem } from '../../api/problem';
import { mayChangeJobs } from '../../api/session';
import { navigate, search } from '../../router';
import { Empty, Failed, Loading } from '../../ui/states';
import { complain, say } from '../../ui/toast';
import { JsonEditor } from './json-editor';
import { NAMES, type Options, OptionFields, isAt, optionInputs } from './options';
import { PayloadForm } from './payload-form';
import { type Field, emptyPayload, fieldsOf } from './schema';

type Kind = KindsQuery['jobKinds'][number];

export function SubmitPage() {
  const kinds = useQuery(KindsDocument, {});
  const parameters = new URLSearchParams(search.value);
  const wanted = parameters.get('kind');
  const from = parameters.get('from');
  const draft = useSignal<Start | null>(null);
  useEffect(() => {
    if (!from) return;
    void query(JobToRepeatDocument, { id: from }).then(({ data }) => {
      if (!data?.job) return complain('The job to repeat is not there any more.');
      const { kind, displayName, payload, priority, maxAttempts } = data.job;
      draft.value = { payload, options: { displayName, priority: String(priority), maxAttempts: String(maxAttempts) } };
      navigate(`/ui/submit?from=${from}&kind=${encodeURIComponent(kind)}`, { replace: true });
    });
  }, [from]);

  if (!mayChangeJobs.value) {
    return (
      <Empty title="This token does not submit">
        <p>A worker’s token runs jobs. Submitting takes one of a client or an operator.</p>
      </Empty>
    );
  }
  if (kinds.problem && !kinds.data) return <Failed problem={kinds.problem} retry={kinds.reload} />;
  if (!kinds.data || (from && !draft.value)) return <Loading what="the kinds" />;
  const list = kinds.data.jobKinds;
  const kind = list.find(({ name }) => name === wanted) ?? list.find(({ active }) => active);
  return (
    <section class="page submit" aria-labelledby="title">
      <div class="page-head">
        <h1 id="title" tabIndex={-1}>
          Submit a job
        </h1>
      </div>
      <div class="submit-columns">
        <KindChooser kinds={list} chosen={kind} />
        {kind && <Form key={`${kind.name} ${from ?? ''}`} kind={kind} start={draft.value} />}
      </div>
    </section>
  );
}

function KindChooser({ kinds, chosen }: { kinds: Kind[]; chosen: Kind | undefined }) {
  return (
    <fieldset class="panel kinds">
      <legend class="hidden">Kind</legend>
      {kinds.map((kind) => (
        <label key={kind.name} class={kind === chosen ? 'kind kind-chosen' : 'kind'}>
          <input
            type="radio"
            aria-labelledby={`kind-${kind.name}`}
            aria-describedby={`about-${kind.name}`}
            name="kind"
            value={kind.name}
            checked={kind === chosen}
            disabled={!kind.active}
            onChange={() => navigate(`/ui/submit?kind=${encodeURIComponent(kind.name)}`, { replace: true })}
          />
          <span id={`kind-${kind.name}`} class="kind-name">
            {kind.name}
          </span>
          <span id={`about-${kind.name}`} class="muted kind-about">
            {kind.active ? kind.description : 'Takes no new jobs.'}
          </span>
        </label>
      ))}
    </fieldset>
  );
}

interface Start {
  payload: unknown;
  options: Options;
}

/** The server tells of a missing field at the object that lacks it; people look for it at the field. */
const MISSING = /^"(.+)" is a required property/;

function placed(misfits: Misfit[]): Misfit[] {
  return misfits.map(({ pointer, message }) => {
    const missing = MISSING.exec(message)?.[1];
    return missing === undefined ? { pointer, message } : { pointer: `${pointer}/${missing}`, message: 'This field is required.' };
  });
}

function Form({ kind, start }: { kind: Kind; start: Start | null }) {
  const fields = fieldsOf(kind.inputSchema);
  const first = start?.payload ?? emptyPayload(fields);
  const payload = useSignal<unknown>(first);
  const text = useSignal(printJson(first, 2));
  const asForm = useSignal(fields.length > 0 && isObject(first));
  const options = useSignal<Options>(start?.options ?? {});
  const refused = useSignal<Problem | null>(null);
  const optionsOpen = useSignal(start !== null);
  const busy = useSignal(false);

  const misfits = placed(refused.value?.misfits ?? []);
  const change = (next: unknown) => {
    payload.value = next;
    refused.value = null;
  };
  const toJson = () => {
    text.value = printJson(payload.peek(), 2);
    asForm.value = false;
  };
  const toForm = () => {
    const mistake = readLines(text.peek()).mistake;
    if (mistake) return complain(`Line ${mistake.line}: ${mistake.message}`);
    const parsed = parseJson(text.peek());
    if (!isObject(parsed)) return complain('The form is for an object; this is another value.');
    payload.value = parsed;
    asForm.value = true;
  };

  const submit = async () => {
    if (!asForm.peek()) {
      // The editor shows where the mistake is.
      if (readLines(text.peek()).mistake) return document.querySelector<HTMLElement>('.editor textarea')?.focus();
      payload.value = parseJson(text.peek());
    }
    busy.value = true;
    const input = { kind: kind.name, payload: payload.peek(), ...optionInputs(options.peek()) };
    const answer = await mutate(SubmitJobDocument, { input });
    busy.value = false;
    refused.value = answer.problem;
    if (NAMES.some((name) => isAt(answer.problem, name))) optionsOpen.value = true;
    if (!answer.data) {
      requestAnimationFrame(() => document.querySelector<HTMLElement>('.form [aria-invalid="true"]')?.focus());
      return;
    }
    const { created, job } = answer.data.submitJob;
    say(created ? 'Submitted.' : 'This request id was used before: here is the first job.');
    navigate(`/ui/jobs/${job.id}`);
  };

  return (
    <form
      class="panel form"
      aria-label={`A job of the kind ${kind.name}`}
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        void submit().catch((error: unknown) => (refused.value = problem('UNKNOWN', String(error))));
      }}
    >
      <div class="form-head">
        <div>
          <h2>{kind.name}</h2>
          {kind.description && <p class="muted">{kind.description}</p>}
        </div>
        {fields.length > 0 && <Mode asForm={asForm.value} toForm={toForm} toJson={toJson} />}
      </div>
      {asForm.value ? (
        <PayloadForm fields={fields} payload={payload.value} misfits={misfits} change={change} />
      ) : (
        <JsonEditor
          text={text.value}
          misfits={misfits}
          change={(next) => {
            text.value = next;
            refused.value = null;
          }}
        />
      )}
      <Elsewhere problem={refused.value} misfits={misfits} fields={asForm.value ? fields : null} />
      <details class="options" open={optionsOpen} onToggle={(event) => (optionsOpen.value = event.currentTarget.open)}>
        <summary>Options</summary>
        <OptionFields kind={kind} options={options.value} problem={refused.value} change={(next) => (options.value = next)} />
      </details>
      <div class="form-end">
        <button type="submit" class="button button-primary" disabled={busy}>
          {busy.value ? 'Submitting…' : 'Submit'}
        </button>
        <span class="muted">
          Queue {kind.queue}, up to {kind.maxAttempts} {kind.maxAttempts === 1 ? 'attempt' : 'attempts'}
        </span>
      </div>
    </form>
  );
}

function Mode({ asForm, toForm, toJson }: { asForm: boolean; toForm: () => void; toJson: () => void }) {
  return (
    <div class="mode" role="group" aria-label="How to write the payload">
      <button type="button" class="button" aria-pressed={asForm} onClick={toForm}>
        Form
      </button>
      <button type="button" class="button" aria-pressed={!asForm} onClick={toJson}>
        JSON
      </button>
    </div>
  );
}

/** What is wrong and has no field of its own to stand at. */
function Elsewhere({ problem, misfits, fields }: { problem: Problem | null; misfits: Misfit[]; fields: Field[] | null }) {
  if (!problem) return null;
  const atOption = NAMES.some((name) => isAt(problem, name));
  if (atOption) return null;
  const rest = fields ? misfits.filter(({ pointer }) => !fields.some((field) => pointer === field.pointer || pointer.startsWith(`${field.pointer}/`))) : [];
  if (misfits.length > 0 && rest.length === 0) {
    return (
      <p class="hidden" role="alert">
        The payload does not fit. {misfits.length} {misfits.length === 1 ? 'place is' : 'places are'} marked.
      </p>
    );
  }
  return (
    <div class="form-problem" role="alert">
      {rest.length > 0
        ? rest.map(({ pointer, message }) => (
            <p key={pointer}>
              <code>{pointer || 'the payload'}</code>: {message}
            </p>
          ))
        : problem.message}
    </div>
  );
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
