import { useSignal } from '@preact/signals';
import { useEffect, useId } from 'preact/hooks';
import type { ComponentChildren } from 'preact';
import { parseJson, printJson } from '../../api/json';
import type { Misfit } from '../../api/problem';
import { grouped } from '../../ui/number';
import { complain } from '../../ui/toast';
import { type Field, valueAt, withValue } from './schema';

interface Properties {
  fields: Field[];
  payload: unknown;
  misfits: Misfit[];
  change: (payload: unknown) => void;
}

export function PayloadForm({ fields, payload, misfits, change }: Properties) {
  return (
    <div class="fields">
      {fields.map((field) => (
        <FormField key={field.pointer} field={field} payload={payload} misfits={misfits} change={change} />
      ))}
    </div>
  );
}

interface FieldProperties extends Omit<Properties, 'fields'> {
  field: Field;
}

function FormField({ field, payload, misfits, change }: FieldProperties) {
  const id = useId();
  if (field.type === 'group') {
    return (
      <fieldset class="group">
        <legend>{field.title}</legend>
        {field.description && <p class="muted hint">{field.description}</p>}
        <PayloadForm fields={field.fields} payload={payload} misfits={misfits} change={change} />
      </fieldset>
    );
  }
  const value = valueAt(payload, field.pointer);
  const set = (next: unknown) => change(withValue(payload, field.pointer, next));
  const wrong = misfits.filter(({ pointer }) => pointer === field.pointer || pointer.startsWith(`${field.pointer}/`));
  const described = [field.description ? `${id}-hint` : '', wrong.length > 0 ? `${id}-problem` : ''].join(' ').trim();
  const common = {
    id,
    'aria-invalid': wrong.length > 0,
    'aria-required': field.required,
    'aria-describedby': described || undefined,
  };
  if (field.type === 'truth') {
    return (
      <Labelled id={id} field={field} wrong={wrong} inline>
        <input {...common} type="checkbox" checked={value === true} onChange={(event) => set(event.currentTarget.checked)} />
      </Labelled>
    );
  }
  return (
    <Labelled id={id} field={field} wrong={wrong}>
      <Control field={field} common={common} value={value} set={set} />
    </Labelled>
  );
}

interface ControlProperties {
  field: Field;
  common: Record<string, unknown>;
  value: unknown;
  set: (value: unknown) => void;
}

function Control({ field, common, value, set }: ControlProperties) {
  switch (field.type) {
    case 'choice': {
      const chosen = field.options.findIndex((option) => printJson(option) === printJson(value));
      return (
        <select {...common} value={String(chosen)} onChange={(event) => set(field.options[Number(event.currentTarget.value)])}>
          <option value="-1">{field.required ? 'Choose…' : 'Not given'}</option>
          {field.options.map((option, index) => (
            <option key={index} value={String(index)}>
              {typeof option === 'string' ? option : printJson(option)}
            </option>
          ))}
        </select>
      );
    }
    case 'number': {
      const bounds = [field.minimum, field.maximum];
      const hint = bounds.every((bound) => bound !== null) ? `${bounds[0]} to ${bounds[1]}` : undefined;
      return (
        <input
          {...common}
          class="short"
          inputMode="decimal"
          placeholder={hint}
          value={value === undefined ? '' : String(value)}
          onInput={(event) => set(numberOr(event.currentTarget.value))}
        />
      );
    }
    case 'list':
      return (
        <Draft
          common={common}
          value={Array.isArray(value) ? value.map(String).join('\n') : ''}
          placeholder="One a line"
          rows={3}
          set={(text) => {
            const lines = text.split('\n').filter((line) => line.trim() !== '');
            set(lines.length === 0 ? undefined : field.of === 'number' ? lines.map(numberOr) : lines);
          }}
        />
      );
    case 'json':
      return (
        <Draft
          common={common}
          value={value === undefined ? '' : printJson(value, 2)}
          placeholder="JSON"
          rows={3}
          set={(text) => {
            if (text.trim() === '') return set(undefined);
            try {
              set(parseJson(text));
            } catch {
              // Not yet JSON; the last that was stays until it is.
            }
          }}
        />
      );
    case 'file':
      return <FileControl common={common} media={field.media} bytes={typeof value === 'string' ? decodedLength(value) : 0} set={set} />;
    case 'text':
      return field.long ? (
        <Draft common={common} value={typeof value === 'string' ? value : ''} rows={6} set={(text) => set(text === '' ? undefined : text)} />
      ) : (
        <input
          {...common}
          value={value === undefined ? '' : String(value)}
          onInput={(event) => set(event.currentTarget.value === '' ? undefined : event.currentTarget.value)}
        />
      );
    default:
      return null;
  }
}

/** What is not a number stays as it was typed; the server says what is wrong with it. */
function numberOr(text: string): unknown {
  const trimmed = text.trim();
  if (trimmed === '') return undefined;
  return /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(trimmed) ? parseJson(trimmed.replace(/^(-?)0+(?=\d)/, '$1')) : trimmed;
}

/** A text whose form is not that of the value: it must not be written anew while one types. */
function Draft(properties: { common: Record<string, unknown>; value: string; rows: number; placeholder?: string; set: (text: string) => void }) {
  const { common, value, rows, placeholder, set } = properties;
  const text = useSignal(value);
  const typing = useSignal(false);
  useEffect(() => {
    if (!typing.peek()) text.value = value;
  }, [value]);
  return (
    <textarea
      {...common}
      rows={rows}
      placeholder={placeholder}
      value={text}
      onFocus={() => (typing.value = true)}
      onBlur={() => (typing.value = false)}
      onInput={(event) => {
        text.value = event.currentTarget.value;
        set(text.value);
      }}
    />
  );
}

function decodedLength(base64: string): number {
  return Math.floor((base64.replace(/=+$/, '').length * 3) / 4);
}

/** A file of this computer, sent as base64. */
function FileControl(properties: { common: Record<string, unknown>; media: string | null; bytes: number; set: (value: unknown) => void }) {
  const { common, media, bytes, set } = properties;
  const choose = (file: File | undefined) => {
    if (!file) return set(undefined);
    const reader = new FileReader();
    reader.onload = () => set(String(reader.result).replace(/^[^,]*,/, ''));
    reader.onerror = () => complain(`${file.name} cannot be read.`);
    reader.readAsDataURL(file);
  };
  return (
    <>
      <input {...common} type="file" accept={media ?? undefined} onChange={(event) => choose(event.currentTarget.files?.[0])} />
      {bytes > 0 && <p class="muted hint">{grouped(bytes)} bytes are chosen.</p>}
    </>
  );
}

interface LabelledProperties {
  id: string;
  field: Pick<Field, 'title' | 'description' | 'required'>;
  wrong: Misfit[];
  inline?: boolean;
  children: ComponentChildren;
}

export function Labelled({ id, field, wrong, inline, children }: LabelledProperties) {
  const label = (
    <label for={id} class={inline ? '' : 'field'}>
      {field.title}
      {field.required && <span class="required"> required</span>}
    </label>
  );
  return (
    <div class="form-field">
      {inline ? (
        <div class="check-line">
          {children}
          {label}
        </div>
      ) : (
        label
      )}
      {field.description && (
        <p id={`${id}-hint`} class="muted hint">
          {field.description}
        </p>
      )}
      {!inline && children}
      {wrong.length > 0 && (
        <p id={`${id}-problem`} class="field-problem">
          {wrong.map(({ message }) => message).join(' ')}
        </p>
      )}
    </div>
  );
}
