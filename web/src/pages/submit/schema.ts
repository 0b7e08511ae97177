// The subset of JSON Schema that makes a form. What it does not know is a field for JSON; the server checks the payload
// by the whole schema anyway.

export interface FieldBase {
  /** RFC 6901, from the payload's root. */
  pointer: string;
  name: string;
  title: string;
  description: string | null;
  required: boolean;
  fallback: unknown;
}

export type Field = FieldBase &
  (
    | { type: 'text'; long: boolean }
    /** Its bytes, in base64. */
    | { type: 'file'; media: string | null }
    | { type: 'choice'; options: unknown[] }
    | { type: 'number'; minimum: number | null; maximum: number | null }
    | { type: 'truth' }
    | { type: 'list'; of: 'string' | 'number' }
    | { type: 'group'; fields: Field[] }
    | { type: 'json' }
  );

type Schema = Record<string, unknown>;

const DEEPEST = 4;
const LONG_TEXT = 200;

/** The fields of an object with known properties; none when there is no form to make. */
export function fieldsOf(schema: unknown, pointer = '', depth = 0): Field[] {
  if (!isSchema(schema) || !isSchema(schema.properties) || depth > DEEPEST) return [];
  const required = Array.isArray(schema.required) ? schema.required : [];
  const fields = Object.entries(schema.properties).map(([name, property]) => {
    const own = isSchema(property) ? property : {};
    const base: FieldBase = {
      pointer: `${pointer}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`,
      name,
      title: text(own.title) ?? name,
      description: text(own.description),
      required: required.includes(name),
      fallback: own.default,
    };
    return field(base, own, depth);
  });
  // What must be given stands first; the API gives fields by name, not as they were written.
  return [...fields.filter((field) => field.required), ...fields.filter((field) => !field.required)];
}

function field(base: FieldBase, schema: Schema, depth: number): Field {
  if (Array.isArray(schema.enum)) return { ...base, type: 'choice', options: schema.enum };
  switch (schema.type) {
    case 'string':
      if (schema.contentEncoding === 'base64') return { ...base, type: 'file', media: text(schema.contentMediaType) };
      return { ...base, type: 'text', long: schema.format === 'multiline' || (number(schema.maxLength) ?? 0) > LONG_TEXT };
    case 'integer':
    case 'number':
      return { ...base, type: 'number', minimum: number(schema.minimum), maximum: number(schema.maximum) };
    case 'boolean':
      return { ...base, type: 'truth' };
    case 'array': {
      const items = isSchema(schema.items) ? schema.items : {};
      if (items.enum !== undefined) return { ...base, type: 'json' };
      if (items.type === 'string') return { ...base, type: 'list', of: 'string' };
      if (items.type === 'integer' || items.type === 'number') return { ...base, type: 'list', of: 'number' };
      return { ...base, type: 'json' };
    }
    case 'object': {
      const fields = fieldsOf(schema, base.pointer, depth + 1);
      return fields.length > 0 ? { ...base, type: 'group', fields } : { ...base, type: 'json' };
    }
    default:
      return { ...base, type: 'json' };
  }
}

/** A payload to begin with: what the schema says is usual. */
export function emptyPayload(fields: Field[]): Record<string, unknown> {
  const payload: Record<string, unknown> = {};
  for (const field of fields) {
    if (field.fallback !== undefined) payload[field.name] = field.fallback;
    else if (field.type === 'group') {
      const inner = emptyPayload(field.fields);
      if (field.required || Object.keys(inner).length > 0) payload[field.name] = inner;
    }
  }
  return payload;
}

export function tokens(pointer: string): string[] {
  return pointer.split('/').slice(1).map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
}

export function valueAt(payload: unknown, pointer: string): unknown {
  return tokens(pointer).reduce<unknown>((value, token) => (isSchema(value) ? value[token] : undefined), payload);
}

/** The payload with another value at this place; undefined takes the field away. Groups that are empty go with it. */
export function withValue(payload: unknown, pointer: string, value: unknown): Record<string, unknown> {
  const [first, ...rest] = tokens(pointer);
  const copy: Record<string, unknown> = isSchema(payload) ? { ...payload } : {};
  if (first === undefined) return copy;
  const inner = rest.length === 0 ? value : withValue(copy[first], `/${rest.map(escape).join('/')}`, value);
  const empty = inner === undefined || (rest.length > 0 && isSchema(inner) && Object.keys(inner).length === 0);
  if (empty) delete copy[first];
  else copy[first] = inner;
  return copy;
}

function escape(token: string): string {
  return token.replaceAll('~', '~0').replaceAll('/', '~1');
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function text(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

function number(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}
