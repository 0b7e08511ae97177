// The jobs that must be done first: their ids as typed, and below them what they are.

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { query } from '../../api/client';
import { type JobStatus, TypedDocumentString } from '../../api/generated';
import { Status } from '../../ui/status';

interface Found {
  id: string;
  displayName: string;
  clientId: string;
  status: JobStatus;
}

const ID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
const SETTLE_MS = 400;
/** The API lets through 30 aliases. */
const AT_ONCE = 25;
/** Those after them are checked by the server alone. */
const MOST_SHOWN = 100;

export function idsIn(text: string): string[] {
  return text.split(/[\s,]+/).filter((word) => word !== '');
}

interface Properties {
  common: Record<string, unknown>;
  value: string;
  set: (value: string) => void;
}

export function DependsOn({ common, value, set }: Properties) {
  const ids = [...new Set(idsIn(value))].slice(0, MOST_SHOWN);
  const found = useSignal<ReadonlyMap<string, Found | null>>(new Map());
  useEffect(() => {
    const timer = setTimeout(() => {
      const asked = ids.filter((id) => ID.test(id) && !found.peek().has(id));
      void lookUp(asked).then((answers) => (found.value = new Map([...found.peek(), ...answers])));
    }, SETTLE_MS);
    return () => clearTimeout(timer);
  }, [ids.join()]);
  return (
    <>
      <textarea
        {...common}
        class="mono"
        rows={Math.min(Math.max(ids.length, 1), 6)}
        spellcheck={false}
        placeholder="One id a line"
        value={value}
        onInput={(event) => set(event.currentTarget.value)}
      />
      {ids.length > 0 && (
        <ul class="related awaited" aria-label="Jobs that must be done first" aria-live="polite">
          {ids.map((id) => (
            <li key={id}>
              <Awaited id={id} job={found.value.get(id)} />
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function Awaited({ id, job }: { id: string; job: Found | null | undefined }) {
  if (!ID.test(id)) return <span class="field-problem">{id} is not the id of a job.</span>;
  if (job === undefined) return <span class="muted">…{id.slice(-8)}</span>;
  if (job === null) return <span class="field-problem">There is no job …{id.slice(-8)}.</span>;
  return (
    <>
      <a href={`/ui/jobs/${job.id}`} target="_blank" rel="noreferrer">
        {job.displayName}
      </a>
      <span class="muted">{job.clientId}</span>
      <Status status={job.status} />
    </>
  );
}

async function lookUp(ids: string[]): Promise<Map<string, Found | null>> {
  const answers = new Map<string, Found | null>();
  for (let start = 0; start < ids.length; start += AT_ONCE) {
    const some = ids.slice(start, start + AT_ONCE);
    const fields = some.map((id, index) => `job${index}: job(id: ${JSON.stringify(id)}) { id displayName clientId status }`);
    const document = new TypedDocumentString(`query Awaited { ${fields.join(' ')} }`) as unknown as LookUp;
    const { data } = await query(document, {});
    for (const [index, id] of some.entries()) if (data) answers.set(id, data[`job${index}`] ?? null);
  }
  return answers;
}

type LookUp = TypedDocumentString<Record<string, Found | null>, Record<string, never>>;
