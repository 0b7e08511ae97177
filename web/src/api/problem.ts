// What went wrong, in words for people and a code for programs.

import type { CombinedError } from '@urql/core';

/** Where in a payload something does not fit. */
export interface Misfit {
  /** RFC 6901, from the payload's root. */
  pointer: string;
  message: string;
}

export interface Problem {
  /** As `extensions.code` of the API, or NETWORK where no answer came. */
  code: string;
  message: string;
  /** The argument at fault, such as `input.runAt`. */
  field: string | null;
  misfits: Misfit[];
}

export function problem(code: string, message: string): Problem {
  return { code, message, field: null, misfits: [] };
}

export function problemOf(error: CombinedError): Problem {
  const first = error.graphQLErrors[0];
  if (!first) return problem('NETWORK', 'The server cannot be reached.');
  const { code, field, pointers } = first.extensions as { code?: unknown; field?: unknown; pointers?: unknown };
  return {
    code: typeof code === 'string' ? code : 'UNKNOWN',
    message: sentence(first.message),
    field: typeof field === 'string' ? field : null,
    misfits: Array.isArray(pointers) ? pointers.map((pointer) => misfit(String(pointer), first.message)) : [],
  };
}

/** The API tells all places in one line: `… at "/a": what; at "/b": what`. */
function misfit(pointer: string, line: string): Misfit {
  const place = `at ${JSON.stringify(pointer)}: `;
  const start = line.indexOf(place);
  if (start < 0) return { pointer, message: sentence(line) };
  const rest = line.slice(start + place.length);
  return { pointer, message: sentence(rest.split('; at "')[0] ?? rest) };
}

/** The API speaks in clauses; people read sentences. */
function sentence(text: string): string {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
