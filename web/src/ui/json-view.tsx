// JSON to read: a tree that opens where one wants, with every digit as it came.

import { useSignal } from '@preact/signals';
import { isLosslessNumber, printJson } from '../api/json';
import { copy } from './copy';

/** Deeper, and after so many entries, it is closed at first. */
const OPEN_DEPTH = 3;
const OPEN_ENTRIES = 40;
const STEP = 200;

export function JsonView({ value, label }: { value: unknown; label: string }) {
  return (
    <div class="json-frame">
      <div class="json" role="region" aria-label={label} tabIndex={0}>
        <Value value={value} depth={0} name={null} last />
      </div>
      <button type="button" class="button json-copy" onClick={() => void copy(printJson(value, 2), label)}>
        Copy
      </button>
    </div>
  );
}

interface Properties {
  value: unknown;
  depth: number;
  name: string | null;
  last: boolean;
}

function Value({ value, depth, name, last }: Properties) {
  const comma = last ? '' : ',';
  const isObject = typeof value === 'object' && value !== null && !isLosslessNumber(value);
  if (!isObject || sizeOf(value) === 0) {
    return (
      <div class="json-line">
        <Key name={name} />
        <Scalar value={value} />
        {comma}
      </div>
    );
  }
  return <Branch value={value} depth={depth} name={name} last={last} />;
}

function Branch({ value, depth, name, last }: Properties & { value: object }) {
  const size = sizeOf(value);
  const open = useSignal(depth < OPEN_DEPTH && (depth === 0 || size <= OPEN_ENTRIES));
  const shown = useSignal(STEP);
  const array = Array.isArray(value);
  const [begin, end] = array ? '[]' : '{}';
  const comma = last ? '' : ',';
  const entries: [string | null, unknown][] = array ? value.map((item) => [null, item]) : Object.entries(value);
  return (
    <div>
      <div class="json-line">
        <button
          type="button"
          class="json-toggle"
          aria-expanded={open}
          aria-label={`${name ?? 'Value'}, ${size} ${array ? 'items' : 'fields'}`}
          onClick={() => (open.value = !open.value)}
        />
        <Key name={name} />
        {begin}
        {!open.value && (
          <>
            <span class="muted"> {size} </span>
            {end}
            {comma}
          </>
        )}
      </div>
      {open.value && (
        <>
          <div class="json-inner">
            {entries.slice(0, shown.value).map(([key, item], index) => (
              <Value key={key ?? index} value={item} depth={depth + 1} name={key} last={index === size - 1} />
            ))}
            {size > shown.value && (
              <button type="button" class="link" onClick={() => (shown.value += STEP)}>
                {size - shown.value} more
              </button>
            )}
          </div>
          <div class="json-line">
            {end}
            {comma}
          </div>
        </>
      )}
    </div>
  );
}

function Key({ name }: { name: string | null }) {
  if (name === null) return null;
  return (
    <>
      <span class="json-key">{JSON.stringify(name)}</span>
      {': '}
    </>
  );
}

function Scalar({ value }: { value: unknown }) {
  if (typeof value === 'string') return <span class="json-text">{JSON.stringify(value)}</span>;
  if (typeof value === 'number' || isLosslessNumber(value)) return <span class="json-number">{String(value)}</span>;
  if (typeof value === 'object' && value !== null) return <span>{Array.isArray(value) ? '[]' : '{}'}</span>;
  return <span class="json-word">{String(value)}</span>;
}

function sizeOf(value: object): number {
  return Array.isArray(value) ? value.length : Object.keys(value).length;
}
