import { useId } from 'preact/hooks';
import type { KindsQuery, SubmitJobInput } from '../../api/generated';
import type { Problem } from '../../api/problem';
import { isOperator } from '../../api/session';
import { DependsOn, idsIn } from './depends-on';
import { Labelled } from './payload-form';

type Kind = KindsQuery['jobKinds'][number];

/** As typed. */
export type Options = Partial<Record<keyof typeof SPECS, string>>;

interface Spec {
  title: string;
  hint?: string;
  type?: 'number' | 'datetime-local' | 'url' | 'ids';
  usual?: (kind: Kind) => string;
  operators?: boolean;
}

const SPECS = {
  displayName: { title: 'Name', hint: 'Shown to people.' },
  clientId: { title: 'Client id', operators: true },
  requestId: { title: 'Request id', hint: 'The same id gives the same job, however often it is sent.' },
  priority: { title: 'Priority', hint: 'Lower runs first.', type: 'number', usual: (kind) => String(kind.priority) },
  runAt: { title: 'Not before', type: 'datetime-local' },
  startBefore: { title: 'Give up unless started by', type: 'datetime-local' },
  dependsOn: { title: 'Only after these jobs', hint: 'It waits until all of them are done.', type: 'ids' },
  maxAttempts: { title: 'Attempts', type: 'number', usual: (kind) => String(kind.maxAttempts) },
  timeoutSeconds: { title: 'Seconds an attempt may take', type: 'number', usual: (kind) => String(kind.timeoutSeconds) },
  callbackUrl: { title: 'Callback', hint: 'Where the end is told, by POST.', type: 'url' },
} satisfies Record<string, Spec>;

type Name = keyof typeof SPECS;
export const NAMES = Object.keys(SPECS) as Name[];

/** The options as the API takes them; what is empty is left out. */
export function optionInputs(options: Options): Partial<SubmitJobInput> {
  const inputs: Record<string, unknown> = {};
  for (const name of NAMES) {
    const text = options[name]?.trim();
    if (!text) continue;
    const { type } = SPECS[name] as Spec;
    if (type === 'number') inputs[name] = Number(text);
    else if (type === 'datetime-local') inputs[name] = new Date(text).toISOString();
    else if (type === 'ids') inputs[name] = idsIn(text);
    else inputs[name] = text;
  }
  return inputs;
}

interface Properties {
  kind: Kind;
  options: Options;
  problem: Problem | null;
  change: (options: Options) => void;
}

export function OptionFields({ kind, options, problem, change }: Properties) {
  return (
    <div class="fields option-fields">
      {NAMES.filter((name) => !(SPECS[name] as Spec).operators || isOperator.value).map((name) => (
        <OptionField
          key={name}
          name={name}
          spec={SPECS[name]}
          kind={kind}
          value={options[name] ?? ''}
          problem={isAt(problem, name) ? problem : null}
          set={(value) => change({ ...options, [name]: value })}
        />
      ))}
    </div>
  );
}

export function isAt(problem: Problem | null, name: string): boolean {
  if (problem?.code === 'CALLBACK_URL_REFUSED') return name === 'callbackUrl';
  const field = problem?.field?.replace(/\[\d+\]$/, '');
  return field === `input.${name}` || field === name;
}

interface FieldProperties {
  name: string;
  spec: Spec;
  kind: Kind;
  value: string;
  problem: Problem | null;
  set: (value: string) => void;
}

function OptionField({ spec, kind, value, problem, set }: FieldProperties) {
  const id = useId();
  const wrong = problem ? [{ pointer: '', message: problem.message }] : [];
  const described = {
    id,
    'aria-invalid': wrong.length > 0,
    'aria-describedby': [spec.hint ? `${id}-hint` : '', wrong.length > 0 ? `${id}-problem` : ''].join(' ').trim() || undefined,
  };
  const common = {
    ...described,
    value,
    onInput: (event: { currentTarget: HTMLInputElement }) => set(event.currentTarget.value),
  };
  return (
    <Labelled id={id} field={{ title: spec.title, description: spec.hint ?? null, required: false }} wrong={wrong}>
      {spec.type === 'ids' ? (
        <DependsOn common={described} value={value} set={set} />
      ) : spec.type === 'datetime-local' ? (
        <input {...common} type="datetime-local" step={1} />
      ) : (
        <input {...common} inputMode={spec.type === 'number' ? 'numeric' : spec.type} placeholder={spec.usual?.(kind)} />
      )}
    </Labelled>
  );
}
