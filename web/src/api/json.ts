// JSON without loss. Numbers that a double cannot hold, such as 9007199254740993, stay as the text that they came as.

import { LosslessNumber, isLosslessNumber, isSafeNumber, parse, stringify } from 'lossless-json';

/** Any JSON value; numbers that a double cannot hold are `LosslessNumber`. */
export type Json = null | boolean | number | string | LosslessNumber | Json[] | { [key: string]: Json };

/** Without so many digits in a row every number fits; the parser that is built in is then right, and much faster. */
const MANY_DIGITS = /\d[\d.]{15}|\d[eE]/;

export function parseJson(text: string): unknown {
  if (!MANY_DIGITS.test(text)) return JSON.parse(text);
  return parse(text, null, (digits) => (isSafeNumber(digits) ? Number(digits) : new LosslessNumber(digits)));
}

export function printJson(value: unknown, indent?: number): string {
  return stringify(value, null, indent) ?? 'null';
}

export { LosslessNumber, isLosslessNumber };
